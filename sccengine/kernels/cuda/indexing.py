"""Flat indices of batch-last arrays (C, H, W, N), in 32 bits.

Numba computes with 64-bit integers whatever the operands, and asks at every signed index whether it counts from the
end. These helpers cast back to 32 bits, divide without a sign and index with uint32, which takes the depthwise kernels
from 600 instructions to 340 (forward) and from 2070 to 600 (backward) on compute capability 9.0.
"""

from __future__ import annotations

import numpy as np
from numba import cuda as numba_cuda

from sccengine.kernels.cuda.launch import device_cuda as cuda


@numba_cuda.jit(device=True)
def thread_index():
    """This thread's number in a one-dimensional grid."""
    return np.int32(cuda.grid(1))


@numba_cuda.jit(device=True)
def quotient(index, divisor):
    """``index // divisor`` for 0 <= index < 2**31 and 0 < divisor < 2**31."""
    return np.int32(np.uint32(index) // np.uint32(divisor))


@numba_cuda.jit(device=True)
def split(index, height, width, batch):
    """(channel, h, w, n) of a flat index into an array (C, height, width, batch)."""
    pixel = quotient(index, batch)
    row = quotient(pixel, width)
    channel = quotient(row, height)
    h = np.int32(row - channel * height)
    w = np.int32(pixel - row * width)
    n = np.int32(index - pixel * batch)
    return channel, h, w, n


@numba_cuda.jit(device=True)
def offset(channel, h, w, n, height, width, batch):
    """The flat index of element (channel, h, w, n) of an array (C, height, width, batch)."""
    return np.uint32(((channel * height + h) * width + w) * batch + n)


@numba_cuda.jit(device=True)
def inside(position, kernel, stride, padding, size):
    """First and last + 1 of the pixels that the window at output `position` covers, inside an image axis of `size`."""
    first = np.int32(position * stride - padding)
    return np.int32(max(first, 0)), np.int32(min(first + kernel, size))


@numba_cuda.jit(device=True)
def covering(pixel, kernel, stride, padding, positions):
    """First and last + 1 of the `positions` output positions along an axis whose windows cover `pixel`."""
    last = np.int32(pixel + padding)
    first = quotient(last - kernel + stride, stride) if last >= kernel else np.int32(0)
    return first, np.int32(min(quotient(last, stride) + 1, positions))


@numba_cuda.jit(device=True)
def wide_product(a, b):
    """a * b of two int32 >= 0, with 64 bits: one instruction, where int64(a) * b takes five."""
    return np.int64(np.uint64(np.uint32(a)) * np.uint64(np.uint32(b)))
