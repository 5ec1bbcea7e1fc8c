"""Sliding-channel convolution, forward and forward + backward: 20 problems.

The candidates: ``F.scc`` and ``nn.SCC`` as users call them (checks, allocation, graph and all), and each variant's bare
kernels on arrays allocated before, in the order of VARIANTS: from the paper's plain baseline upwards. The oracle is
oracle_scc.py.
"""

from __future__ import annotations

import itertools

import numpy as np

import sccengine.functional as F
from sccengine import backend, nn
from sccengine.bench import operators, oracle_scc
from sccengine.bench.case import Benchmark, Candidate, Case, Work
from sccengine.bench.selection import KERNELS
from sccengine.certify import Layer
from sccengine.windows import ChannelWindows

SHAPES = [(16, 64, 64, 32), (16, 128, 128, 16), (32, 256, 256, 8), (32, 512, 512, 4)]  # N, C, O, H = W
WINDOWS = [(2, 0.5), (4, 0.5), (8, 0.5), (2, 0.33), (4, 0.25)]  # cg, co


def case(axes, device):
    """The case of one problem."""
    n, c, o, h = (axes[key] for key in "NCOH")
    windows = ChannelWindows.sliding(c, o, axes["cg"], axes["co"])
    shapes = {"x": (n, c, h, h), "weight": (o, windows.width), "bias": (o,), "dy": (n, o, h, h)}
    return Case(
        axes,
        _candidates(axes, windows, device),
        _work(axes, windows),
        operators.drawing(shapes),
        lambda inputs: _expected(axes, inputs),
        layer=Layer.scc(c, o, axes["cg"], axes["co"]),
    )


def _expected(axes, inputs):
    settings = (axes["cg"], axes["co"])
    want = {"y": oracle_scc.forward(inputs["x"], inputs["weight"], inputs["bias"], *settings)}
    if axes["pass"] == "both":
        want.update(operators.named(oracle_scc.backward(inputs["dy"], inputs["x"], inputs["weight"], *settings)))
    return want


def _work(axes, windows):
    """2 operations per multiply-accumulate, three contractions in a forward + backward; each array moved once."""
    n, c, o, h = (axes[key] for key in "NCOH")
    weights = o * windows.width
    contraction = 2.0 * n * h * h * weights
    if axes["pass"] == "forward":
        return Work(contraction, 4.0 * (n * h * h * (c + o) + weights + o))
    return Work(3 * contraction, 4.0 * (n * h * h * 2 * (c + o) + 2 * weights + 2 * o))


def _candidates(axes, windows, device):
    settings = {"groups": axes["cg"], "overlap": axes["co"]}

    def functional(inputs):
        return operators.prepare(axes, device, inputs, lambda x, weight, bias: F.scc(x, weight, bias, **settings))

    def layer(inputs):
        return operators.prepare_layer(axes, device, inputs, nn.SCC(axes["C"], axes["O"], **settings))

    return [
        Candidate("F.scc", "engine", functional, operators.read),
        Candidate("nn.SCC", "engine", layer, operators.read),
        *(
            Candidate(
                KERNELS + variant,
                "engine",
                lambda inputs, variant=variant: _prepare_kernels(axes, windows, device, variant, inputs),
                lambda outputs: _read_rows(axes, outputs),
            )
            for variant in _variants(device)
        ),
    ]


def _variants(device):
    """Those that can run and compute float32 in full: the floor and the tolerance are not those of others."""
    like = backend.to_device(np.zeros(1, np.float32), device)
    kernels = backend.kernels_for(like).scc
    return [
        name
        for name, variant in kernels.VARIANTS.items()
        if variant.precision == "highest" and kernels.problem(name, like) is None
    ]


def _prepare_kernels(axes, windows, device, variant, inputs):
    """run() of one variant's launchers on batch-last arrays, outputs allocated before."""

    def on_device(array):
        return backend.to_device(np.ascontiguousarray(array), device)

    x, dy = (on_device(backend.rows(inputs[key]).reshape(inputs[key].shape[1], -1)) for key in ("x", "dy"))
    weight, bias = on_device(inputs["weight"]), on_device(inputs["bias"])
    y, dx, dweight, dbias = (backend.empty(a.shape, like=a) for a in (dy, x, weight, bias))
    kernels = backend.kernels_for(x)

    def forward():
        kernels.scc.forward(x, weight, bias, y, windows, variant)
        return {"y": y}

    def forward_backward():
        kernels.scc.forward(x, weight, bias, y, windows, variant)
        kernels.scc.backward(dy, x, weight, dx, dweight, dbias, windows, variant, variant)
        return {"y": y, "dx": dx, "dweight": dweight, "dbias": dbias}

    return forward if axes["pass"] == "forward" else forward_backward


def _read_rows(axes, outputs):
    """Rows arrays with y and dx back in (N, C, H, W)."""
    image = (axes["H"], axes["H"], axes["N"])
    return {
        name: backend.from_rows(value.reshape(-1, *image)) if name in ("y", "dx") else value
        for name, value in outputs.items()
    }


BENCHMARK = Benchmark(
    "scc",
    operators.with_passes(
        dict(N=n, C=c, O=o, H=h, cg=cg, co=co) for (n, c, o, h), (cg, co) in itertools.product(SHAPES, WINDOWS)
    ),
    operators.with_passes([dict(N=2, C=8, O=12, H=5, cg=2, co=0.5)]),
    case,
    "F.scc",
)
