"""Every stride-th pixel of an image, which is all that a strided 1x1 contraction reads.

    y[c, a, b, n] = x[c, a * sh, b * sw, n]
    dx[c, h, w, n] = dy[c, h / sh, w / sw, n] where sh divides h and sw divides w, else 0

One element of the result a thread; along n, reads and writes run through memory. The floor is memory: forward moves
8 bytes for each float32 element of y, backward 4 for each of dy and of dx.
"""

from __future__ import annotations

from numba import cuda

from sccengine.kernels.cuda.indexing import offset, quotient, split, thread_index
from sccengine.kernels.cuda.launch import Build, elements


@cuda.jit
def forward_v1(
    x,  # (C, H, W, N)
    y,  # (C, HO, WO, N)
    sh,
    sw,
    H,
    W,
    HO,
    WO,
    N,
    count,  # C * HO * WO * N
):
    i = thread_index()
    if i < count:
        c, a, b, n = split(i, HO, WO, N)
        y[i] = x[offset(c, a * sh, b * sw, n, H, W, N)]


@cuda.jit
def backward_v1(
    dy,  # (C, HO, WO, N)
    dx,  # (C, H, W, N)
    sh,
    sw,
    H,
    W,
    HO,
    WO,
    N,
    count,  # C * H * W * N
):
    i = thread_index()
    if i < count:
        c, h, w, n = split(i, H, W, N)
        a, b = quotient(h, sh), quotient(w, sw)
        value = dx.dtype.type(0)
        if a * sh == h and b * sw == w:
            value = dy[offset(c, a, b, n, HO, WO, N)]
        dx[i] = value


def forward(x, y, stride):
    """y (C, HO, WO, N) = every stride-th pixel of x (C, H, W, N)."""
    elements(forward_v1, y.size, x, y, *stride, *x.shape[1:3], *y.shape[1:], y.size)


def backward(dy, dx, stride):
    """dx (C, H, W, N) = dy (C, HO, WO, N) at every stride-th pixel, 0 at the others."""
    elements(backward_v1, dx.size, dy, dx, *stride, *dx.shape[1:3], *dy.shape[1:], dx.size)


COMPILE = [
    Build(forward_v1, "FFiiiiiiii"),
    Build(backward_v1, "FFiiiiiiii"),
]
