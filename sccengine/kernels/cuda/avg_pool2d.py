"""Average pooling: the mean over each window of KH x KW pixels, where padding counts as zeros.

    y[c,ho,wo,n] = (1 / (KH*KW)) * sum_{kh,kw} x[c, ho*sh - ph + kh, wo*sw - pw + kw, n]
    dx[c,h,w,n]  = (1 / (KH*KW)) * the sum of dy[c,ho,wo,n] over the windows (ho, wo) that cover (h, w)

x (C, H, W, N), y (C, HO, WO, N). Neighbouring threads hold neighbouring n. Nothing is written twice: no atomics. Memory
must carry 4 * (C*H*W*N + C*HO*WO*N) bytes for float32, forward and backward alike.

v1: a thread per element written, which gathers.
v2: four images a thread, 16 bytes an access, so that finding the place (four divisions) is shared by four. For float32
    with N % 4 == 0; else v1. Windows that overlap are read again from the caches.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from sccengine.kernels.cuda.indexing import covering, inside, offset, split, thread_index
from sccengine.kernels.cuda.intrinsics import load4, store4
from sccengine.kernels.cuda.launch import Build, elements
from sccengine.kernels.cuda.vectors import vectors_serve


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
    count,  # elements of y
):
    i = thread_index()
    if i >= count:
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
    count,  # elements of dx
):
    i = thread_index()
    if i >= count:
        return
    channel, h, w, n = split(i, height, width, batch)
    top, bottom = covering(h, kernel_height, stride_height, padding_height, out_height)
    left, right = covering(w, kernel_width, stride_width, padding_width, out_width)
    total = dx.dtype.type(0)
    for ho in range(top, bottom):
        for wo in range(left, right):
            total += dy[offset(channel, ho, wo, n, out_height, out_width, batch)]
    dx[i] = total / dx.dtype.type(kernel_height * kernel_width)


@cuda.jit(device=True)
def window_sum(image, channel, top, bottom, left, right, height, width, groups, group):
    """Four sums over a window of image (C, height, width, groups * 4): those of its lane group `group`."""
    a, b, c, d = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    for h in range(top, bottom):
        at = np.int32((((channel * height + h) * width + left) * groups + group) * 4)
        for _ in range(left, right):
            value = load4(image, at)
            a += value[0]
            b += value[1]
            c += value[2]
            d += value[3]
            at = np.int32(at + groups * 4)
    return a, b, c, d


@cuda.jit
def forward_v2(
    x,  # (C, H, W, N)
    y,  # (C, HO, WO, N)
    count,  # C * HO * WO * groups
    groups,  # N / 4
    height,  # H
    width,  # W
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
    if i >= count:
        return
    channel, ho, wo, group = split(i, out_height, out_width, groups)
    top, bottom = inside(ho, kernel_height, stride_height, padding_height, height)
    left, right = inside(wo, kernel_width, stride_width, padding_width, width)
    total = window_sum(x, channel, top, bottom, left, right, height, width, groups, group)
    scale = np.float32(1) / np.float32(kernel_height * kernel_width)
    store4(y, np.int32(4 * i), total[0] * scale, total[1] * scale, total[2] * scale, total[3] * scale)


@cuda.jit
def backward_v2(
    dy,  # (C, HO, WO, N)
    dx,  # (C, H, W, N)
    count,  # C * H * W * groups
    groups,  # N / 4
    height,  # H
    width,  # W
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
    if i >= count:
        return
    channel, h, w, group = split(i, height, width, groups)
    top, bottom = covering(h, kernel_height, stride_height, padding_height, out_height)
    left, right = covering(w, kernel_width, stride_width, padding_width, out_width)
    total = window_sum(dy, channel, top, bottom, left, right, out_height, out_width, groups, group)
    scale = np.float32(1) / np.float32(kernel_height * kernel_width)
    store4(dx, np.int32(4 * i), total[0] * scale, total[1] * scale, total[2] * scale, total[3] * scale)


def forward(x, y, kernel, stride, padding):
    """y (C, HO, WO, N) from x (C, H, W, N)."""
    if vectors_serve(x, y):
        sizes = y.size // 4, x.shape[3] // 4, *x.shape[1:3], *y.shape[1:3]
        return elements(forward_v2, y.size // 4, x, y, *sizes, *kernel, *stride, *padding)
    elements(forward_v1, y.size, x, y, *x.shape[1:], *y.shape[1:3], *kernel, *stride, *padding, y.size)


def backward(dy, dx, kernel, stride, padding):
    """dx (C, H, W, N) from dy (C, HO, WO, N)."""
    if vectors_serve(dy, dx):
        sizes = dx.size // 4, dx.shape[3] // 4, *dx.shape[1:3], *dy.shape[1:3]
        return elements(backward_v2, dx.size // 4, dy, dx, *sizes, *kernel, *stride, *padding)
    elements(backward_v1, dx.size, dy, dx, *dx.shape[1:], *dy.shape[1:3], *kernel, *stride, *padding, dx.size)


COMPILE = [
    Build(forward_v1, "FF" + "i" * 12),
    Build(backward_v1, "FF" + "i" * 12),
    Build(forward_v2, "FF" + "i" * 12, ("float32",), instructions=("LDG.E.128", "STG.E.128"), registers=64),
    Build(backward_v2, "FF" + "i" * 12, ("float32",), instructions=("LDG.E.128", "STG.E.128"), registers=64),
]
