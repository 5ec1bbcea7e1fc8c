"""ReLU and ReLU6: y = min(max(x, 0), ceiling); the gradient is 0 at both ends. NaN stays NaN."""

import numpy as np
from numba import prange

from sccengine.kernels.cpu.compile import BLOCK, PARALLEL_WORK, jit, parallel_jit


@jit
def _clamp(
    x,  # (n,)
    y,  # (n,)
    ceiling,
):
    zero = y.dtype.type(0)
    top = y.dtype.type(ceiling)
    for i in range(y.size):
        value = zero if x[i] <= zero else x[i]
        y[i] = top if value >= top else value


@jit
def _pass_inside(
    dy,  # (n,)
    y,  # (n,)
    dx,  # (n,)
    ceiling,
):
    zero = y.dtype.type(0)
    top = y.dtype.type(ceiling)
    has_top = top < np.inf
    for i in range(y.size):
        dx[i] = zero if (y[i] <= zero) | (has_top & (y[i] >= top)) else dy[i]


@parallel_jit
def _forward(
    x,  # (n,)
    y,  # (n,)
    ceiling,
):
    for block in prange((x.size + BLOCK - 1) // BLOCK):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        _clamp(x[part], y[part], ceiling)


@parallel_jit
def _backward(
    dy,  # (n,)
    y,  # (n,)
    dx,  # (n,)
    ceiling,
):
    for block in prange((y.size + BLOCK - 1) // BLOCK):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        _pass_inside(dy[part], y[part], dx[part], ceiling)


def forward(
    x,  # (n,)
    y,  # (n,)
    ceiling,  # float: inf for ReLU, 6 for ReLU6
):
    _forward(x, y, float(ceiling), parallel=x.size >= PARALLEL_WORK)


def backward(
    dy,  # (n,)
    y,  # (n,)
    dx,  # (n,)
    ceiling,  # float: inf for ReLU, 6 for ReLU6
):
    _backward(dy, y, dx, float(ceiling), parallel=y.size >= PARALLEL_WORK)
