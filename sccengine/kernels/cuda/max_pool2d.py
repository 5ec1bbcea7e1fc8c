"""Max pooling, with the winners' places kept for the backward.

    y[c,ho,wo,n]       = max over the window of x[c, ho*sh - ph + kh, wo*sw - pw + kw, n]
    indices[c,ho,wo,n] = h * W + w of the winner (int32)
    dx[c,h,w,n]        = the sum of dy[c,ho,wo,n] over the windows (ho, wo) that (h, w) won

x (C, H, W, N), y (C, HO, WO, N). Padding never wins; of equals the first wins; a NaN wins over every number (of several
the last, as in PyTorch). Every window must reach into x, which padding <= kernel // 2 guarantees.

Neighbouring threads hold neighbouring n. The backward takes one thread per input element, which asks the windows that
cover it whether they chose it: each element is written once, without atomics.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from sccengine.kernels.cuda.indexing import covering, inside, offset, split, thread_index
from sccengine.kernels.cuda.launch import Build, elements


@cuda.jit
def forward_v1(
    x,  # (C, H, W, N)
    y,  # (C, HO, WO, N)
    indices,  # (C, HO, WO, N), int32
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
    winner = np.int32(top * width + left)
    highest = x[offset(channel, top, left, n, height, width, batch)]
    for h in range(top, bottom):
        for w in range(left, right):
            value = x[offset(channel, h, w, n, height, width, batch)]
            if value > highest or value != value:
                highest = value
                winner = np.int32(h * width + w)
    y[i] = highest
    indices[i] = winner


@cuda.jit
def backward_v1(
    dy,  # (C, HO, WO, N)
    indices,  # (C, HO, WO, N), int32
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
    here = np.int32(h * width + w)
    total = dx.dtype.type(0)
    for ho in range(top, bottom):
        for wo in range(left, right):
            j = offset(channel, ho, wo, n, out_height, out_width, batch)
            if indices[j] == here:
                total += dy[j]
    dx[i] = total


def forward(x, y, indices, kernel, stride, padding):
    """y and indices (C, HO, WO, N) from x (C, H, W, N)."""
    elements(forward_v1, y.size, x, y, indices, *x.shape[1:], *y.shape[1:3], *kernel, *stride, *padding)


def backward(dy, indices, dx, kernel, stride, padding):
    """dx (C, H, W, N) from dy and the forward's indices (C, HO, WO, N)."""
    elements(backward_v1, dx.size, dy, indices, dx, *dx.shape[1:], *dy.shape[1:3], *kernel, *stride, *padding)


COMPILE = [
    Build(forward_v1, "FFI" + "i" * 11),
    Build(backward_v1, "FIF" + "i" * 11),
]
