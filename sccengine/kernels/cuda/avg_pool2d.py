"""Average pooling: the mean over each window of KH x KW pixels, where padding counts as zeros.

    y[c,ho,wo,n] = (1 / (KH*KW)) * sum_{kh,kw} x[c, ho*sh - ph + kh, wo*sw - pw + kw, n]
    dx[c,h,w,n]  = (1 / (KH*KW)) * the sum of dy[c,ho,wo,n] over the windows (ho, wo) that cover (h, w)

x (C, H, W, N), y (C, HO, WO, N). Neighbouring threads hold neighbouring n. Both directions take one thread per element
written, which gathers: no atomics.
"""

from __future__ import annotations

from numba import cuda

from sccengine.kernels.cuda.indexing import covering, inside, offset, split, thread_index
from sccengine.kernels.cuda.launch import Build, elements


@cuda.jit
def forward_v1(
    x,  # (C, H, W, N)
    y,  # (C, HO, WO, N)
    height,  # H
    width,  # W
    batch,  # N
    out_height,  # HO
    out_width,  # WO
    kernel_height,  # KH
    kernel_width,  # KW
    stride_height,
    stride_width,
    padding_height,
    padding_width,
):
    i = thread_index()
    if i >= y.size:
        return
    channel, ho, wo, n = split(i, out_height, out_width, batch)
    top, bottom = inside(ho, kernel_height, stride_height, padding_height, height)
    left, right = inside(wo, kernel_width, stride_width, padding_width, width)
    total = y.dtype.type(0)
    for h in range(top, bottom):
        for w in range(left, right):
            total += x[offset(channel, h, w, n, height, width, batch)]
    y[i] = total / y.dtype.type(kernel_height * kernel_width)


@cuda.jit
def backward_v1(
    dy,  # (C, HO, WO, N)
    dx,  # (C, H, W, N)
    height,  # H
    width,  # W
    batch,  # N
    out_height,  # HO
    out_width,  # WO
    kernel_height,  # KH
    kernel_width,  # KW
    stride_height,
    stride_width,
    padding_height,
    padding_width,
):
    i = thread_index()
    if i >= dx.size:
        return
    channel, h, w, n = split(i, height, width, batch)
    top, bottom = covering(h, kernel_height, stride_height, padding_height, out_height)
    left, right = covering(w, kernel_width, stride_width, padding_width, out_width)
    total = dx.dtype.type(0)
    for ho in range(top, bottom):
        for wo in range(left, right):
            total += dy[offset(channel, ho, wo, n, out_height, out_width, batch)]
    dx[i] = total / dx.dtype.type(kernel_height * kernel_width)


def forward(x, y, kernel, stride, padding):
    """y (C, HO, WO, N) from x (C, H, W, N)."""
    elements(forward_v1, y.size, x, y, *x.shape[1:], *y.shape[1:3], *kernel, *stride, *padding)


def backward(dy, dx, kernel, stride, padding):
    """dx (C, H, W, N) from dy (C, HO, WO, N)."""
    elements(backward_v1, dx.size, dy, dx, *dx.shape[1:], *dy.shape[1:3], *kernel, *stride, *padding)


COMPILE = [
    Build(forward_v1, "FF" + "i" * 11),
    Build(backward_v1, "FF" + "i" * 11),
]
