"""What clipping by the gradients' norm needs: a sum of squares, and a multiplication in place.

The sum is taken in float64 whatever the dtype, because it runs over millions of squares and float32 ends at 3e38. One
launch leaves a partial sum for each of at most PARTIALS blocks, a second adds those; which elements a block takes
depends on the array's size alone, so the result has the same bits on every run.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from sccengine.kernels.cuda.indexing import thread_index
from sccengine.kernels.cuda.launch import blocks, divide_up, elements
from sccengine.kernels.cuda.reduction import THREADS, block_sum

# Enough blocks to fill any GPU, few enough for one block to add what they leave.
PARTIALS = 1024


@cuda.jit
def sum_of_squares_v1(
    gradient,  # (M,)
    partials,  # (grid size,), float64
):
    shared = cuda.shared.array(THREADS, partials.dtype)
    total = partials.dtype.type(0)
    for i in range(cuda.grid(1), gradient.size, cuda.gridsize(1)):
        value = partials.dtype.type(gradient[i])
        total += value * value
    total = block_sum(shared, total)
    if cuda.threadIdx.x == 0:
        partials[cuda.blockIdx.x] = total


@cuda.jit
def sum_v1(
    partials,  # (length,), float64
    total,  # (1,), float64
):
    shared = cuda.shared.array(THREADS, partials.dtype)
    share = partials.dtype.type(0)
    for i in range(cuda.threadIdx.x, partials.size, THREADS):
        share += partials[i]
    share = block_sum(shared, share)
    if cuda.threadIdx.x == 0:
        total[0] = share


@cuda.jit
def scale_v1(
    gradient,  # (M,), in and out
    factor,
):
    i = thread_index()
    if i < gradient.size:
        gradient[i] *= factor


def sum_of_squares(gradient):
    """The sum of the squares of the flat array `gradient` as a Python float; waits for the device."""
    grid = min(divide_up(gradient.size, THREADS), PARTIALS)
    # empty_like is NumPy's or CuPy's, after the array it is given.
    partials = np.empty_like(gradient, dtype=np.float64, shape=(grid,))
    total = np.empty_like(gradient, dtype=np.float64, shape=(1,))
    blocks(sum_of_squares_v1, grid, THREADS, gradient, partials)
    blocks(sum_v1, 1, THREADS, partials, total)
    return float(total[0])


def scale(gradient, factor):
    """Multiplies the flat array `gradient` by `factor`, in place."""
    elements(scale_v1, gradient.size, gradient, float(factor))


COMPILE = [
    (sum_of_squares_v1, "FD"),
    (sum_v1, "DD"),
    (scale_v1, "Ff"),
]
