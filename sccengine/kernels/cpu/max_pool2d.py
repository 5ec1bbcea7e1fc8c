"""Max pooling, one window an output pixel; padding never wins. The batch is the vector.

    y[c, i, j, n] = max over the window;   indices = h * W + w of the winner: the first of equals, NaN before all else
    dx[c, h, w, n] = sum of dy[c, i, j, n] over the windows that hold (h, w) and were won by it

Backward gathers: each input pixel looks at the windows that cover it, so threads never meet.
"""

import numpy as np
from numba import prange

from sccengine.kernels.cpu.compile import PARALLEL_WORK, jit, parallel_jit


@jit
def _start(
    row,  # (N,)
    pixel,
    best,  # (N,)
    winner,  # (N,) int32
):
    for n in range(best.size):
        best[n] = row[n]
        winner[n] = pixel


@jit
def _challenge(
    row,  # (N,)
    pixel,
    best,  # (N,)
    winner,  # (N,) int32
):
    for n in range(best.size):
        value = row[n]
        held = best[n]
        wins = (not (value <= held)) & (held == held)
        best[n] = value if wins else held
        winner[n] = pixel if wins else winner[n]


@jit
def _collect(
    dy,  # (N,)
    winner,  # (N,) int32
    pixel,
    dx,  # (N,)
):
    zero = dx.dtype.type(0)
    for n in range(dx.size):
        dx[n] += dy[n] if winner[n] == pixel else zero


@jit
def _pool(
    x,  # (H, W, N)
    y,  # (HO, WO, N)
    indices,  # (HO, WO, N) int32
    kernel,
    stride,
    padding,
):
    height, width, _ = x.shape
    for i in range(y.shape[0]):
        top = i * stride[0] - padding[0]
        for j in range(y.shape[1]):
            left = j * stride[1] - padding[1]
            first = True
            for h in range(max(top, 0), min(top + kernel[0], height)):
                for w in range(max(left, 0), min(left + kernel[1], width)):
                    pixel = np.int32(h * width + w)
                    if first:
                        _start(x[h, w], pixel, y[i, j], indices[i, j])
                        first = False
                    else:
                        _challenge(x[h, w], pixel, y[i, j], indices[i, j])


@jit
def _unpool(
    dy,  # (HO, WO, N)
    indices,  # (HO, WO, N) int32
    dx,  # (H, W, N)
    kernel,
    stride,
    padding,
):
    dx[:] = 0
    width = dx.shape[1]
    for h in range(dx.shape[0]):
        top = max(0, (h + padding[0] - kernel[0]) // stride[0] + 1)
        bottom = min(dy.shape[0], (h + padding[0]) // stride[0] + 1)
        for w in range(width):
            left = max(0, (w + padding[1] - kernel[1]) // stride[1] + 1)
            right = min(dy.shape[1], (w + padding[1]) // stride[1] + 1)
            for i in range(top, bottom):
                for j in range(left, right):
                    _collect(dy[i, j], indices[i, j], np.int32(h * width + w), dx[h, w])


@parallel_jit
def _forward(
    x,  # (C, H, W, N)
    y,  # (C, HO, WO, N)
    indices,  # (C, HO, WO, N) int32
    kernel,
    stride,
    padding,
):
    for c in prange(x.shape[0]):
        _pool(x[c], y[c], indices[c], kernel, stride, padding)


@parallel_jit
def _backward(
    dy,  # (C, HO, WO, N)
    indices,  # (C, HO, WO, N) int32
    dx,  # (C, H, W, N)
    kernel,
    stride,
    padding,
):
    for c in prange(dx.shape[0]):
        _unpool(dy[c], indices[c], dx[c], kernel, stride, padding)


def forward(
    x,  # (C, H, W, N)
    y,  # (C, HO, WO, N), written
    indices,  # (C, HO, WO, N) int32, written
    kernel,  # (h, w)
    stride,  # (h, w)
    padding,  # (h, w), at most half the kernel
):
    _forward(x, y, indices, kernel, stride, padding, parallel=2 * x.size >= PARALLEL_WORK)


def backward(
    dy,  # (C, HO, WO, N)
    indices,  # (C, HO, WO, N) int32
    dx,  # (C, H, W, N), written
    kernel,  # (h, w)
    stride,  # (h, w)
    padding,  # (h, w)
):
    _backward(dy, indices, dx, kernel, stride, padding, parallel=2 * dx.size >= PARALLEL_WORK)
