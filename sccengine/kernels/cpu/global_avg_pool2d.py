"""Global average pooling: y[c, n] = mean_p x[c, p, n]; its backward spreads dy / P over the pixels.

Sums run in float64: along n where the batch fills vectors, along p otherwise.
"""

import numpy as np
from numba import prange

from sccengine.kernels.cpu.compile import PARALLEL_WORK, jit, parallel_jit

_LONG_BATCH = 8


@jit
def _accumulate(
    row,  # (N,)
    total,  # (N,) float64
):
    for n in range(total.size):
        total[n] += row[n]


@jit
def _mean(
    x,  # (P, N)
    y,  # (N,)
):
    pixels, batch = x.shape
    if batch < _LONG_BATCH:
        for n in range(batch):
            total = 0.0
            for p in range(pixels):
                total += x[p, n]
            y[n] = total / pixels
        return
    totals = np.zeros(batch, np.float64)
    for p in range(pixels):
        _accumulate(x[p], totals)
    for n in range(batch):
        y[n] = totals[n] / pixels


@jit
def _spread(
    dy,  # (N,)
    dx,  # (P, N)
):
    pixels, batch = dx.shape
    share = dx.dtype.type(1 / pixels)
    for p in range(pixels):
        for n in range(batch):
            dx[p, n] = dy[n] * share


@parallel_jit
def _forward(
    x,  # (C, P, N)
    y,  # (C, N)
):
    for c in prange(x.shape[0]):
        _mean(x[c], y[c])


@parallel_jit
def _backward(
    dy,  # (C, N)
    dx,  # (C, P, N)
):
    for c in prange(dx.shape[0]):
        _spread(dy[c], dx[c])


def forward(
    x,  # (C, P, N)
    y,  # (C, N)
):
    _forward(x, y, parallel=x.size >= PARALLEL_WORK)


def backward(
    dy,  # (C, N)
    dx,  # (C, P, N)
):
    _backward(dy, dx, parallel=dx.size >= PARALLEL_WORK)
