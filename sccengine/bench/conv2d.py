"""Dense convolution, forward and forward + backward: the stems and 3x3 layers of the standard scheme, and 1x1.

Padding kernel // 2; stride s; one group.
"""

from __future__ import annotations

import sccengine.functional as F
from sccengine import nn, reference
from sccengine.bench import operators
from sccengine.bench.case import Benchmark, Candidate, Case, Work


def case(axes, device):
    """The case of one problem: N samples, C channels, O filters, H = W."""
    return convolution(axes, device, filters=axes["O"], kernel=axes["kernel"], groups=1)


def convolution(axes, device, filters, kernel, groups):
    """The case of a square convolution with the axes N, C, H, stride and pass."""
    n, c, h, stride = (axes[key] for key in ("N", "C", "H", "stride"))
    settings = {"stride": stride, "padding": kernel // 2, "groups": groups}
    size = (h + 2 * (kernel // 2) - kernel) // stride + 1
    if size < 1:
        raise ValueError(f"H={h} is too small for a kernel of {kernel}")
    shapes = {
        "x": (n, c, h, h),
        "weight": (filters, c // groups, kernel, kernel),
        "bias": (filters,),
        "dy": (n, filters, size, size),
    }

    def functional(inputs):
        return operators.prepare(axes, device, inputs, lambda x, weight, bias: F.conv2d(x, weight, bias, **settings))

    def layer(inputs):
        return operators.prepare_layer(axes, device, inputs, nn.Conv2d(c, filters, kernel, **settings))

    def expected(inputs):
        x, weight = inputs["x"], inputs["weight"]
        want = {"y": reference.conv2d_forward(x, weight, inputs["bias"], **settings)}
        if axes["pass"] == "both":
            want.update(operators.named(reference.conv2d_backward(inputs["dy"], x, weight, **settings)))
        return want

    candidates = [
        Candidate("F.conv2d", "engine", functional, operators.read),
        Candidate("nn.Conv2d", "engine", layer, operators.read),
    ]
    return Case(axes, candidates, _work(axes, shapes, kernel, size), operators.drawing(shapes), expected)


def _work(axes, shapes, kernel, size):
    """2 operations per multiply-accumulate with a pixel that is there, three times in a forward + backward.

    Winograd's F(4x4, 3x3) (Lavin and Gray 2016) multiplies a quarter as often; no kernel here does, a peer may.
    """
    filters, depth = shapes["weight"][:2]
    # In one direction: pairs of an output and a tap that reads a pixel and not the padding.
    pairs = sum(0 <= a * axes["stride"] - kernel // 2 + i < axes["H"] for a in range(size) for i in range(kernel))
    operations = 2.0 * axes["N"] * filters * depth * pairs**2
    weights = filters * depth * kernel**2
    images = axes["N"] * (axes["C"] * axes["H"] ** 2 + filters * size**2)
    shortcut = 4.0 if kernel == 3 and axes["stride"] == 1 else 1.0
    if axes["pass"] == "forward":
        return Work(operations, 4.0 * (images + weights + filters), shortcut)
    return Work(3 * operations, 4.0 * (2 * images + 2 * weights + 2 * filters), shortcut)


BENCHMARK = Benchmark(
    "conv2d",
    operators.with_passes(
        dict(N=n, C=c, O=o, H=h, kernel=k, stride=s)
        for n, c, o, h, k, s in [
            (32, 3, 32, 32, 3, 1),
            (16, 64, 64, 16, 3, 1),
            (16, 64, 128, 16, 3, 2),
            (16, 128, 128, 8, 3, 1),
            (16, 128, 128, 16, 1, 1),
        ]
    ),
    operators.with_passes([dict(N=2, C=3, O=4, H=6, kernel=3, stride=2)]),
    case,
    "F.conv2d",
)
