"""Multiplication by a number: y = factor * x."""

from numba import prange

from sccengine.kernels.cpu.compile import BLOCK, PARALLEL_WORK, jit, parallel_jit


@jit
def _scale(
    x,  # (n,)
    y,  # (n,)
    factor,
):
    own = y.dtype.type(factor)
    for i in range(y.size):
        y[i] = own * x[i]


@parallel_jit
def _forward(
    x,  # (n,)
    y,  # (n,)
    factor,
):
    for block in prange((y.size + BLOCK - 1) // BLOCK):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        _scale(x[part], y[part], factor)


def forward(
    x,  # (n,)
    y,  # (n,)
    factor,  # float
):
    _forward(x, y, float(factor), parallel=y.size >= PARALLEL_WORK)
