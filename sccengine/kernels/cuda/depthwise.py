"""Depthwise convolution: filter f of O = multiplier * C reads channel f // multiplier alone.

    y[f,ho,wo,n]  = bias[f] + sum_{kh,kw} weight[f,kh,kw] * x[f // multiplier, ho*sh - ph + kh, wo*sw - pw + kw, n]
    dx[c,h,w,n]   = sum over the filters f of c and the (kh, kw) for which ho = (h + ph - kh) / sh and wo are whole and
                    inside y, of weight[f,kh,kw] * dy[f,ho,wo,n]
    dweight[f,kh,kw] = sum_{ho,wo,n} dy[f,ho,wo,n] * x[f // multiplier, ho*sh - ph + kh, wo*sw - pw + kw, n]

x (C, H, W, N), weight (O, KH, KW), y (O, HO, WO, N); pixels outside x count as zero. Neighbouring threads hold
neighbouring n, so every load and store is coalesced, and a pixel's neighbour is N further on at any image size.

v1: forward and dx take one thread per element written, which gathers its window: no atomics. dweight takes one block
per weight element, which reads a row of dy and the shifted row of x: KH*KW readings of both, mostly from the L2 cache.
About 9 loads and 340 instructions (KH = KW = 3) for each output: not memory but the instructions are the limit.

v2 (depthwise_strips.py): strips of an image in registers, vectors of 16 bytes; a load and 27 instructions for an
output. For float32 and the sizes of COMPILED there; the launchers take it wherever it serves, else v1.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from sccengine.kernels.cuda import depthwise_strips, rows
from sccengine.kernels.cuda.indexing import offset, quotient, split, thread_index
from sccengine.kernels.cuda.launch import Build, blocks, elements
from sccengine.kernels.cuda.reduction import THREADS, block_sum


@cuda.jit
def forward_v1(
    x,  # (C, H, W, N)
    weight,  # (O, KH, KW)
    bias,  # (O,), read only if has_bias
    y,  # (O, HO, WO, N)
    has_bias,
    relu,
    multiplier,  # O / C
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
    f, ho, wo, n = split(i, out_height, out_width, batch)
    channel = quotient(f, multiplier)
    total = bias[f] if has_bias else y.dtype.type(0)
    for kh in range(kernel_height):
        h = np.int32(ho * stride_height - padding_height + kh)
        if 0 <= h < height:
            for kw in range(kernel_width):
                w = np.int32(wo * stride_width - padding_width + kw)
                if 0 <= w < width:
                    tap = np.uint32((f * kernel_height + kh) * kernel_width + kw)
                    total += weight[tap] * x[offset(channel, h, w, n, height, width, batch)]
    y[i] = y.dtype.type(0) if relu and total <= 0 else total


@cuda.jit
def backward_input_v1(
    dy,  # (O, HO, WO, N)
    weight,  # (O, KH, KW)
    dx,  # (C, H, W, N)
    multiplier,  # O / C
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
    first = np.int32(channel * multiplier)
    total = dx.dtype.type(0)
    for kh in range(kernel_height):
        # The output row in which this row of the kernel meets h, if the stride stops there.
        top = np.int32(h + padding_height - kh)
        if top < 0:
            continue
        ho = quotient(top, stride_height)
        if ho * stride_height != top or ho >= out_height:
            continue
        for kw in range(kernel_width):
            left = np.int32(w + padding_width - kw)
            if left < 0:
                continue
            wo = quotient(left, stride_width)
            if wo * stride_width != left or wo >= out_width:
                continue
            for f in range(first, first + multiplier):
                tap = np.uint32((f * kernel_height + kh) * kernel_width + kw)
                total += weight[tap] * dy[offset(f, ho, wo, n, out_height, out_width, batch)]
    dx[i] = total


@cuda.jit
def backward_weight_v1(
    dy,  # (O, HO, WO, N)
    x,  # (C, H, W, N)
    dweight,  # (O, KH, KW): one block for each
    multiplier,  # O / C
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
    partial = cuda.shared.array(THREADS, dy.dtype)
    tap = np.int32(cuda.blockIdx.x)
    row = quotient(tap, kernel_width)
    kw = np.int32(tap - row * kernel_width)
    f = quotient(row, kernel_height)
    kh = np.int32(row - f * kernel_height)
    channel = quotient(f, multiplier)
    length = np.int32(out_height * out_width * batch)
    total = dy.dtype.type(0)
    for j in range(cuda.threadIdx.x, length, THREADS):
        _, ho, wo, n = split(j, out_height, out_width, batch)
        h = np.int32(ho * stride_height - padding_height + kh)
        w = np.int32(wo * stride_width - padding_width + kw)
        if 0 <= h < height and 0 <= w < width:
            total += dy[np.uint32(f * length + j)] * x[offset(channel, h, w, n, height, width, batch)]
    total = block_sum(partial, total)
    if cuda.threadIdx.x == 0:
        dweight[tap] = total


def forward(x, weight, bias, y, stride, padding, relu=False):
    """y (O, HO, WO, N) from x (C, H, W, N), weight (O, KH, KW) and bias (O,) or None.

    relu: negative results become 0.
    """
    if depthwise_strips.serves(x, weight, stride):
        return depthwise_strips.forward(x, weight, bias, y, stride, padding, relu)
    sizes = _sizes(x, weight, y, stride, padding)
    elements(forward_v1, y.size, x, weight, bias, y, bias is not None, relu, *sizes, y.size)


def backward_input(dy, weight, dx, stride, padding):
    """dx (C, H, W, N) from dy (O, HO, WO, N) and weight (O, KH, KW)."""
    if depthwise_strips.serves(dy, weight, stride):
        return depthwise_strips.backward_input(dy, weight, dx, stride, padding)
    elements(backward_input_v1, dx.size, dy, weight, dx, *_sizes(dx, weight, dy, stride, padding), dx.size)


def backward_weight(dy, x, dweight, stride, padding):
    """dweight (O, KH, KW) from dy (O, HO, WO, N) and x (C, H, W, N)."""
    if depthwise_strips.serves(x, dweight, stride):
        return depthwise_strips.backward_weight(dy, x, dweight, stride, padding)
    blocks(backward_weight_v1, dweight.size, THREADS, dy, x, dweight, *_sizes(x, dweight, dy, stride, padding))


def backward(dy, x, weight, dx, dweight, dbias, stride, padding):
    """All gradients; dbias (O,) or None."""
    backward_input(dy, weight, dx, stride, padding)
    if depthwise_strips.serves(x, dweight, stride):
        depthwise_strips.backward_weight(dy, x, dweight, stride, padding, dbias)
        return
    backward_weight(dy, x, dweight, stride, padding)
    if dbias is not None:
        rows.sum_rows(dy.reshape(dy.shape[0], -1), dbias)


def _sizes(x, weight, y, stride, padding):
    multiplier = weight.shape[0] // x.shape[0]
    return (multiplier, *x.shape[1:], *y.shape[1:3], *weight.shape[1:], *stride, *padding)


COMPILE = [
    Build(forward_v1, "FFFF" + "i" * 15),
    Build(backward_input_v1, "FFF" + "i" * 13),
    Build(backward_weight_v1, "FFF" + "i" * 12),
]
