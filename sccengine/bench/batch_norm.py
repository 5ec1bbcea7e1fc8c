"""Batch normalisation in training with the ReLU after it, forward and forward + backward.

    y = max((x - mean) / sqrt(var + eps) * weight + bias, 0)

Its floor is that of memory: x read and y written once; in a forward + backward dy read and dx written as well. (The
statistics need x before y can begin, so only what fits into a cache can come near it.)
"""

from __future__ import annotations

import numpy as np

import sccengine.functional as F
from sccengine import nn, reference
from sccengine.bench import operators
from sccengine.bench.case import Benchmark, Candidate, Case, Work

_EDGE = 1e-3


def case(axes, device):
    """The case of one problem: N samples of C channels, H = W."""
    n, c, h = (axes[key] for key in "NCH")
    shapes = {"x": (n, c, h, h), "weight": (c,), "bias": (c,), "dy": (n, c, h, h)}

    def functional(inputs):
        def call(x, weight, bias):
            return F.batch_norm(x, None, None, weight, bias, training=True, relu=True)

        return operators.prepare(axes, device, inputs, call)

    def layer(inputs):
        return operators.prepare_layer(axes, device, inputs, nn.BatchNorm2d(c, relu=True).train())

    candidates = [
        Candidate("F.batch_norm", "engine", functional, operators.read),
        Candidate("nn.BatchNorm2d", "engine", layer, operators.read),
    ]
    return Case(axes, candidates, _work(axes), _drawing(shapes), lambda inputs: _expected(axes, inputs))


def _drawing(shapes):
    """Inputs of which no result is so near 0 that rounding decides its gradient: there dy is 0."""
    draw = operators.drawing(shapes)

    def inputs_of(rng):
        inputs = draw(rng)
        normalised, _, _ = reference.batch_norm_training_forward(inputs["x"], inputs["weight"], inputs["bias"])
        inputs["dy"][np.abs(normalised) < _EDGE] = 0.0
        return inputs

    return inputs_of


def _expected(axes, inputs):
    x, weight = inputs["x"], inputs["weight"]
    normalised, _, _ = reference.batch_norm_training_forward(x, weight, inputs["bias"])
    want = {"y": reference.relu_forward(normalised)}
    if axes["pass"] == "both":
        dy = reference.relu_backward(inputs["dy"], normalised)
        want.update(operators.named(reference.batch_norm_training_backward(dy, x, weight)))
    return want


def _work(axes):
    """Forward: two sums (3 operations), scale and shift (2); backward: two sums (3), dx of dy and x (4)."""
    n, c, h = (axes[key] for key in "NCH")
    elements = n * c * h * h
    if axes["pass"] == "forward":
        return Work(5.0 * elements, 4.0 * (2 * elements + 2 * c))
    return Work(12.0 * elements, 4.0 * (4 * elements + 4 * c))


BENCHMARK = Benchmark(
    "batch_norm",
    operators.with_passes(dict(N=n, C=c, H=h) for n, c, h in [(32, 64, 32), (32, 128, 16), (32, 256, 8), (32, 512, 4)]),
    operators.with_passes([dict(N=3, C=8, H=5)]),
    case,
    "F.batch_norm",
)
