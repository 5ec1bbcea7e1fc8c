"""ReLU (ceiling = inf) and ReLU6 (ceiling = 6): y = min(max(x, 0), ceiling), NaN stays NaN.

    dx = dy where 0 < y < ceiling, else 0

The backward needs y alone, so x can be freed. Arrays are flat; one thread per element.
"""

from __future__ import annotations

from numba import cuda

from sccengine.kernels.cuda.indexing import thread_index
from sccengine.kernels.cuda.launch import Build, elements


@cuda.jit
def forward_v1(
    x,  # (M,)
    y,  # (M,)
    ceiling,
):
    i = thread_index()
    if i >= y.size:
        return
    value = x[i]
    # Comparisons, because max(NaN, 0) is 0 on a GPU.
    if value <= 0:
        value = y.dtype.type(0)
    elif value > ceiling:
        value = ceiling
    y[i] = value


@cuda.jit
def backward_v1(
    dy,  # (M,)
    y,  # (M,)
    dx,  # (M,)
    ceiling,
):
    i = thread_index()
    if i >= dx.size:
        return
    passes = y[i] > 0 and y[i] < ceiling
    dx[i] = dy[i] if passes else dx.dtype.type(0)


def forward(x, y, ceiling):
    """y from x, both flat."""
    elements(forward_v1, y.size, x, y, float(ceiling))


def backward(dy, y, dx, ceiling):
    """dx from dy and the forward's y, all flat."""
    elements(backward_v1, dx.size, dy, y, dx, float(ceiling))


COMPILE = [
    Build(forward_v1, "FFf"),
    Build(backward_v1, "FFFf"),
]
