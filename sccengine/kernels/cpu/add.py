"""Elementwise sum: y = a + b."""

from numba import prange

from sccengine.kernels.cpu.compile import BLOCK, PARALLEL_WORK, jit, parallel_jit


@jit
def _add(
    a,  # (n,)
    b,  # (n,)
    y,  # (n,)
):
    for i in range(y.size):
        y[i] = a[i] + b[i]


@parallel_jit
def _forward(
    a,  # (n,)
    b,  # (n,)
    y,  # (n,)
):
    for block in prange((y.size + BLOCK - 1) // BLOCK):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        _add(a[part], b[part], y[part])


def forward(
    a,  # (n,)
    b,  # (n,)
    y,  # (n,)
):
    _forward(a, b, y, parallel=y.size >= PARALLEL_WORK)
