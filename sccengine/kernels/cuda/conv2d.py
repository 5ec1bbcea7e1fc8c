"""Dense and grouped k x k convolution (cross-correlation, zero padding), in batch-last memory.

    y[f,ho,wo,n]  = bias[f] + sum_{j < C/G, kh, kw} weight[f,j,kh,kw] * x[c, ho*sh - ph + kh, wo*sw - pw + kw, n]
                    where c = (f // (O/G)) * (C/G) + j: the j-th channel of the filter's group
    dx[c,h,w,n]   = sum over the filters f of the channel's group and the output positions (ho, wo) whose windows cover
                    (h, w), of weight[f,j,kh,kw] * dy[f,ho,wo,n]
    dweight[f,j,kh,kw] = sum_{ho,wo,n} dy[f,ho,wo,n] * x[c, ho*sh - ph + kh, wo*sw - pw + kw, n]

x (C, H, W, N), weight (O, C/G, KH, KW), y (O, HO, WO, N); pixels outside x count as zero.

v1: one thread per element of y and of dx, which gathers everything it needs: no element is written twice, so no
atomics, and neighbouring threads hold neighbouring n, so every access to an image is coalesced. dweight takes one block
per weight, which reduces a row of dy against a shifted row of x in a fixed order. Each image is read once for each
weight that touches it, from the caches at best.

v2, for float32: products of matrices whose right one, the pixels under all taps, is made in shared memory and registers
as it is needed. conv2d_implicit.py has forward and dx, conv2d_band.py dweight.
"""

import numpy as np
from numba import cuda

from sccengine.kernels.cuda import conv2d_band, conv2d_implicit, launch
from sccengine.kernels.cuda.indexing import covering, offset, quotient, split, thread_index
from sccengine.kernels.cuda.reduction import THREADS, block_sum


@cuda.jit
def forward_v1(
    x,  # (C, H, W, N)
    weight,  # (O, C/G, KH, KW)
    bias,  # (O,), read only if has_bias
    y,  # (O, HO, WO, N)
    has_bias,
    filters_per_group,  # O / G
    channels_per_group,  # C / G
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
    first_channel = quotient(f, filters_per_group) * channels_per_group
    total = bias[f] if has_bias else y.dtype.type(0)
    for j in range(channels_per_group):
        for kh in range(kernel_height):
            h = ho * stride_height - padding_height + kh
            if 0 <= h < height:
                for kw in range(kernel_width):
                    w = wo * stride_width - padding_width + kw
                    if 0 <= w < width:
                        tap = np.uint32(((f * channels_per_group + j) * kernel_height + kh) * kernel_width + kw)
                        total += weight[tap] * x[offset(first_channel + j, h, w, n, height, width, batch)]
    y[i] = total


@cuda.jit
def backward_input_v1(
    dy,  # (O, HO, WO, N)
    weight,  # (O, C/G, KH, KW)
    dx,  # (C, H, W, N)
    filters_per_group,  # O / G
    channels_per_group,  # C / G
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
    c, h, w, n = split(i, height, width, batch)
    group = quotient(c, channels_per_group)
    j = c - group * channels_per_group
    top, bottom = covering(h, kernel_height, stride_height, padding_height, out_height)
    left, right = covering(w, kernel_width, stride_width, padding_width, out_width)
    total = dx.dtype.type(0)
    for f in range(group * filters_per_group, (group + 1) * filters_per_group):
        for ho in range(top, bottom):
            kh = h + padding_height - ho * stride_height
            for wo in range(left, right):
                kw = w + padding_width - wo * stride_width
                tap = np.uint32(((f * channels_per_group + j) * kernel_height + kh) * kernel_width + kw)
                total += weight[tap] * dy[offset(f, ho, wo, n, out_height, out_width, batch)]
    dx[i] = total


@cuda.jit
def backward_weight_v1(
    dy,  # (O, HO, WO, N)
    x,  # (C, H, W, N)
    dweight,  # (O, C/G, KH, KW): one block for each
    filters_per_group,  # O / G
    channels_per_group,  # C / G
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
    f, j, kh, kw = split(cuda.blockIdx.x, channels_per_group, kernel_height, kernel_width)
    c = quotient(f, filters_per_group) * channels_per_group + j
    length = out_height * out_width * batch
    total = dy.dtype.type(0)
    for m in range(cuda.threadIdx.x, length, THREADS):
        _, ho, wo, n = split(m, out_height, out_width, batch)
        h = ho * stride_height - padding_height + kh
        w = wo * stride_width - padding_width + kw
        if 0 <= h < height and 0 <= w < width:
            total += dy[f * length + m] * x[offset(c, h, w, n, height, width, batch)]
    total = block_sum(partial, total)
    if cuda.threadIdx.x == 0:
        dweight[cuda.blockIdx.x] = total


def forward(x, weight, bias, y, stride, padding, groups):
    """y (O, HO, WO, N) from x (C, H, W, N), weight (O, C/G, KH, KW) and bias (O,) or None."""
    if _implicit(x, weight, padding):
        return conv2d_implicit.forward(x, weight, bias, y, stride, padding, groups)
    sizes = _sizes(x, weight, y, stride, padding, groups)
    launch.elements(forward_v1, y.size, x, weight, bias, y, bias is not None, *sizes, y.size)


def backward_input(dy, weight, dx, stride, padding, groups):
    """dx (C, H, W, N) from dy (O, HO, WO, N) and weight (O, C/G, KH, KW)."""
    if _implicit(dy, weight, padding):
        return conv2d_implicit.backward_input(dy, weight, dx, stride, padding, groups)
    sizes = _sizes(dx, weight, dy, stride, padding, groups)
    launch.elements(backward_input_v1, dx.size, dy, weight, dx, *sizes, dx.size)


def backward_weight(dy, x, dweight, stride, padding, groups):
    """dweight (O, C/G, KH, KW) from dy (O, HO, WO, N) and x (C, H, W, N)."""
    if _implicit(x, dweight, padding):
        return conv2d_band.backward_weight(dy, x, dweight, stride, padding, groups)
    sizes = _sizes(x, dweight, dy, stride, padding, groups)
    launch.blocks(backward_weight_v1, dweight.size, THREADS, dy, x, dweight, *sizes)


def _implicit(image, weight, padding):
    """Whether version 2 serves: float32, and taps less than 2**15 pixels away, which is as far as its table goes."""
    return image.dtype == np.float32 and max(*weight.shape[2:], *padding) < 2**15


def _sizes(x, weight, y, stride, padding, groups):
    per_group = weight.shape[0] // groups, weight.shape[1]
    return (*per_group, *x.shape[1:], *y.shape[1:3], *weight.shape[2:], *stride, *padding)


COMPILE = [
    launch.Build(forward_v1, "FFFF" + "i" * 15),
    launch.Build(backward_input_v1, "FFF" + "i" * 14),
    launch.Build(backward_weight_v1, "FFF" + "i" * 13),
]
