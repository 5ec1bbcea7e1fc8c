"""The two halves of gradient clipping: the norm of all gradients together, and the scaling in place.

Squares are summed in float64 over fixed blocks, and the blocks in order, whatever the number of threads.
"""

import math

import numpy as np
from numba import prange

from sccengine.kernels.cpu.compile import BLOCK, PARALLEL_WORK, jit, parallel_jit

# PyTorch's: keeps the factor finite where all gradients are zero.
TINY = 1e-6


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
):
    """Sums by block. Adding them up here would be no fixed order: Numba shares out sum() among the threads too."""
    blocks = (gradient.size + BLOCK - 1) // BLOCK
    totals = np.empty(blocks, np.float64)
    for block in prange(blocks):
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


def norm(
    gradients,  # a list of C-contiguous arrays
    out,  # (1,), float64: the root of the sum of their squares
):
    flat = [gradient.reshape(-1) for gradient in gradients]
    out[0] = math.sqrt(sum(float(_squares_of_blocks(g, parallel=g.size >= PARALLEL_WORK).sum()) for g in flat))


def scale(
    gradients,  # a list of C-contiguous arrays, multiplied in place by min(1, max_norm / (norm + 1e-6))
    norm,  # (1,), float64
    max_norm,
):
    factor = max_norm / (float(norm[0]) + TINY)
    if not factor >= 1.0:  # NaN, too
        for gradient in gradients:
            _scale(gradient.reshape(-1), factor)
