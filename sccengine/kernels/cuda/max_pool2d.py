"""Max pooling, with the winners' places kept for the backward.

    y[c,ho,wo,n]       = max over the window of x[c, ho*sh - ph + kh, wo*sw - pw + kw, n]
    indices[c,ho,wo,n] = h * W + w of the winner (int32)
    dx[c,h,w,n]        = the sum of dy[c,ho,wo,n] over the windows (ho, wo) that (h, w) won

x (C, H, W, N), y (C, HO, WO, N). Padding never wins; of equals the first wins; a NaN wins over every number (of several
the last, as in PyTorch). Every window must reach into x, which padding <= kernel // 2 guarantees.

Neighbouring threads hold neighbouring n. Nothing is written twice: no atomics. Memory must carry, for float32,

    forward    4 * (C*H*W*N + 2 * C*HO*WO*N) bytes     C = 64, 32 x 32, N = 128, 2 x 2: 50 MB, 11 us at 4.8 TB/s (H200)
    backward   the same bytes

v1: a thread per element written. The backward asks the windows that cover its pixel whether they chose it.
v2: four images a thread, 16 bytes an access, so that finding the place (four divisions) is shared by four. For float32
    with N % 4 == 0; else v1.
cells_v2: the backward where windows do not overlap (stride >= kernel, no padding), the usual 2 x 2: a thread writes
    the SH x SW pixels of which only one window covers any, and reads dy and indices once instead of KH*KW times.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from sccengine.kernels.cuda.indexing import covering, inside, offset, split, thread_index
from sccengine.kernels.cuda.intrinsics import load4, store4
from sccengine.kernels.cuda.launch import Build, divide_up, elements
from sccengine.kernels.cuda.vectors import vectors_serve, windows_apart


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
    count,  # elements of y
):
    i = thread_index()
    if i >= count:
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
    count,  # elements of dx
):
    i = thread_index()
    if i >= count:
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


@cuda.jit
def forward_v2(
    x,  # (C, H, W, N)
    y,  # (C, HO, WO, N)
    indices,  # (C, HO, WO, N), int32
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
    highest = cuda.local.array(4, np.float32)
    value = cuda.local.array(4, np.float32)
    winner = cuda.local.array(4, np.int32)
    for lane in range(4):
        highest[lane] = -np.float32(np.inf)
        winner[lane] = np.int32(top * width + left)
    for h in range(top, bottom):
        at = np.int32((((channel * height + h) * width + left) * groups + group) * 4)
        for w in range(left, right):
            value[0], value[1], value[2], value[3] = load4(x, at)
            for lane in range(4):
                if value[lane] > highest[lane] or value[lane] != value[lane]:
                    highest[lane] = value[lane]
                    winner[lane] = np.int32(h * width + w)
            at = np.int32(at + groups * 4)
    store4(y, np.int32(4 * i), highest[0], highest[1], highest[2], highest[3])
    store4(indices, np.int32(4 * i), winner[0], winner[1], winner[2], winner[3])


@cuda.jit
def backward_v2(
    dy,  # (C, HO, WO, N)
    indices,  # (C, HO, WO, N), int32
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
    here = np.int32(h * width + w)
    total = cuda.local.array(4, np.float32)
    slope = cuda.local.array(4, np.float32)
    winner = cuda.local.array(4, np.int32)
    for lane in range(4):
        total[lane] = np.float32(0)
    for ho in range(top, bottom):
        at = np.int32((((channel * out_height + ho) * out_width + left) * groups + group) * 4)
        for _ in range(left, right):
            slope[0], slope[1], slope[2], slope[3] = load4(dy, at)
            winner[0], winner[1], winner[2], winner[3] = load4(indices, at)
            for lane in range(4):
                if winner[lane] == here:
                    total[lane] += slope[lane]
            at = np.int32(at + groups * 4)
    store4(dx, np.int32(4 * i), total[0], total[1], total[2], total[3])


@cuda.jit
def backward_cells_v2(
    dy,  # (C, HO, WO, N)
    indices,  # (C, HO, WO, N), int32
    dx,  # (C, H, W, N)
    count,  # C * cell_rows * cell_columns * groups
    groups,  # N / 4
    cell_rows,  # H / SH, rounded up
    cell_columns,  # W / SW, rounded up
    height,  # H
    width,  # W
    out_height,  # HO
    out_width,  # WO
    stride_height,
    stride_width,
):
    i = thread_index()
    if i >= count:
        return
    channel, ho, wo, group = split(i, cell_rows, cell_columns, groups)
    slope = cuda.local.array(4, np.float32)
    winner = cuda.local.array(4, np.int32)
    for lane in range(4):
        slope[lane] = np.float32(0)
        winner[lane] = np.int32(-1)
    # The last cells may lie beyond the last window: they are zero.
    if ho < out_height and wo < out_width:
        at = np.int32((((channel * out_height + ho) * out_width + wo) * groups + group) * 4)
        slope[0], slope[1], slope[2], slope[3] = load4(dy, at)
        winner[0], winner[1], winner[2], winner[3] = load4(indices, at)
    left = np.int32(wo * stride_width)
    right = np.int32(min(left + stride_width, width))
    zero = np.float32(0)
    for h in range(ho * stride_height, np.int32(min((ho + 1) * stride_height, height))):
        at = np.int32((((channel * height + h) * width + left) * groups + group) * 4)
        for w in range(left, right):
            here = np.int32(h * width + w)
            store4(
                dx,
                at,
                slope[0] if winner[0] == here else zero,
                slope[1] if winner[1] == here else zero,
                slope[2] if winner[2] == here else zero,
                slope[3] if winner[3] == here else zero,
            )
            at = np.int32(at + groups * 4)


def forward(x, y, indices, kernel, stride, padding):
    """y and indices (C, HO, WO, N) from x (C, H, W, N)."""
    if vectors_serve(x, y, indices):
        groups = x.shape[3] // 4
        sizes = y.size // 4, groups, *x.shape[1:3], *y.shape[1:3]
        return elements(forward_v2, y.size // 4, x, y, indices, *sizes, *kernel, *stride, *padding)
    elements(forward_v1, y.size, x, y, indices, *x.shape[1:], *y.shape[1:3], *kernel, *stride, *padding, y.size)


def backward(dy, indices, dx, kernel, stride, padding):
    """dx (C, H, W, N) from dy and the forward's indices (C, HO, WO, N)."""
    if vectors_serve(dy, indices, dx):
        arrays = dy, indices, dx
        channels, height, width, batch = dx.shape
        groups = batch // 4
        sizes = height, width, *dy.shape[1:3]
        if windows_apart(kernel, stride, padding):
            cells = divide_up(height, stride[0]), divide_up(width, stride[1])
            count = channels * cells[0] * cells[1] * groups
            return elements(backward_cells_v2, count, *arrays, count, groups, *cells, *sizes, *stride)
        count = dx.size // 4
        return elements(backward_v2, count, *arrays, count, groups, *sizes, *kernel, *stride, *padding)
    sizes = *dx.shape[1:], *dy.shape[1:3]
    elements(backward_v1, dx.size, dy, indices, dx, *sizes, *kernel, *stride, *padding, dx.size)


COMPILE = [
    Build(forward_v1, "FFI" + "i" * 12),
    Build(backward_v1, "FIF" + "i" * 12),
    Build(forward_v2, "FFI" + "i" * 12, ("float32",), instructions=("LDG.E.128", "STG.E.128"), registers=64),
    Build(backward_v2, "FIF" + "i" * 12, ("float32",), instructions=("LDG.E.128", "STG.E.128"), registers=64),
    Build(backward_cells_v2, "FIF" + "i" * 10, ("float32",), instructions=("LDG.E.128", "STG.E.128"), registers=64),
]
