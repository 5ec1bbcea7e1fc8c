"""The two halves of gradient clipping: the sum of squares, and the scaling in place.

Squares are summed in float64 over fixed blocks, and the blocks in order, whatever the number of threads.
"""

import numpy as np
from numba import prange

from sccengine.kernels.cpu.compile import BLOCK, PARALLEL_WORK, jit, parallel_jit


@jit
def _block_squares(
    part,  # (n,)
):
    total = 0.0
    for i in range(part.size):
        value = np.float64(part[i])
        total += value * value
    return total


@parallel_jit
def _squares_of_blocks(
    gradient,  # (n,)
    parallel,
):
    """Sums by block. Adding them up here would be no fixed order: Numba shares out sum() among the threads too."""
    blocks = (gradient.size + BLOCK - 1) // BLOCK
    totals = np.empty(blocks, np.float64)
    if parallel:
        for block in prange(blocks):
            totals[block] = _block_squares(gradient[block * BLOCK : (block + 1) * BLOCK])
    else:
        for block in range(blocks):
            totals[block] = _block_squares(gradient[block * BLOCK : (block + 1) * BLOCK])
    return totals


@jit
def _scale(
    gradient,  # (n,)
    factor,
):
    by = gradient.dtype.type(factor)
    for i in range(gradient.size):
        gradient[i] *= by


def sum_of_squares(
    gradient,  # (n,)
):
    return float(_squares_of_blocks(gradient, gradient.size >= PARALLEL_WORK).sum())


def scale(
    gradient,  # (n,), changed in place
    factor,
):
    _scale(gradient, float(factor))
