"""ReLU (ceiling = inf) and ReLU6 (ceiling = 6): y = min(max(x, 0), ceiling), NaN stays NaN.

    dx = 0 where y <= 0 or y = 6, else dy

The backward needs y alone, so x can be freed. Arrays are flat. Floor, in bytes a float32 element: forward 8 (read x,
write y), backward 12 (read dy and y, write dx).

v1  one thread per element; for arrays that do not begin at a multiple of 16 bytes
v2  one thread per four elements, 128 bits an access
"""

from __future__ import annotations

import math

from numba import cuda

from sccengine.kernels.cuda.indexing import thread_index
from sccengine.kernels.cuda.intrinsics import load, load4, store, store4
from sccengine.kernels.cuda.launch import Build, elements
from sccengine.kernels.cuda.row_pieces import four_or_rest, fours, in_fours


@cuda.jit(device=True)
def _clamped(value, zero, ceiling):
    # Comparisons, because max(NaN, 0) is 0 on a GPU.
    if value <= 0:
        return zero
    return ceiling if value > ceiling else value


@cuda.jit(device=True)
def _passed(dy, y, zero, ceiling):
    return zero if y <= 0 or (y >= ceiling and ceiling < math.inf) else dy


@cuda.jit
def forward_v1(
    x,  # (M,)
    y,  # (M,)
    count,  # M
    ceiling,
):
    i = thread_index()
    if i < count:
        y[i] = _clamped(x[i], y.dtype.type(0), ceiling)


@cuda.jit
def forward_v2(
    x,  # (M,)
    y,  # (M,)
    count,  # M
    ceiling,
):
    zero = y.dtype.type(0)
    i, rest = four_or_rest(count)
    if rest == 4:
        x0, x1, x2, x3 = load4(x, i)
        store4(
            y,
            i,
            _clamped(x0, zero, ceiling),
            _clamped(x1, zero, ceiling),
            _clamped(x2, zero, ceiling),
            _clamped(x3, zero, ceiling),
        )
    else:
        for k in range(i, i + rest):
            store(y, k, _clamped(load(x, k), zero, ceiling))


@cuda.jit
def backward_v1(
    dy,  # (M,)
    y,  # (M,)
    dx,  # (M,)
    count,  # M
    ceiling,
):
    i = thread_index()
    if i < count:
        dx[i] = _passed(dy[i], y[i], dx.dtype.type(0), ceiling)


@cuda.jit
def backward_v2(
    dy,  # (M,)
    y,  # (M,)
    dx,  # (M,)
    count,  # M
    ceiling,
):
    zero = dx.dtype.type(0)
    i, rest = four_or_rest(count)
    if rest == 4:
        g0, g1, g2, g3 = load4(dy, i)
        y0, y1, y2, y3 = load4(y, i)
        store4(
            dx,
            i,
            _passed(g0, y0, zero, ceiling),
            _passed(g1, y1, zero, ceiling),
            _passed(g2, y2, zero, ceiling),
            _passed(g3, y3, zero, ceiling),
        )
    else:
        for k in range(i, i + rest):
            store(dx, k, _passed(load(dy, k), load(y, k), zero, ceiling))


def forward(x, y, ceiling):
    """y from x, both flat."""
    if in_fours(x, y):
        elements(forward_v2, fours(y.size), x, y, y.size, float(ceiling))
    else:
        elements(forward_v1, y.size, x, y, y.size, float(ceiling))


def backward(dy, y, dx, ceiling):
    """dx from dy and the forward's y, all flat."""
    if in_fours(dy, y, dx):
        elements(backward_v2, fours(dx.size), dy, y, dx, dx.size, float(ceiling))
    else:
        elements(backward_v1, dx.size, dy, y, dx, dx.size, float(ceiling))


_VECTORS = {"instructions": ("LDG.E.128", "STG.E.128"), "registers": 32}
COMPILE = [
    Build(forward_v1, "FFif"),
    Build(forward_v2, "FFif", **_VECTORS),
    Build(backward_v1, "FFFif"),
    Build(backward_v2, "FFFif", **_VECTORS),
]
