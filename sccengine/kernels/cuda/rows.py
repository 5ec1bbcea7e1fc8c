"""Sums of rows: out[c] = sum_m x[c, m], the bias gradient of every convolution (x = dy there).

x is (C, M) with M = H*W*N: in batch-last memory a channel is one contiguous row. One block sums one row: thread
t adds elements t, t + THREADS, ... (coalesced), then the block adds its threads' sums as a tree. No atomics, so
the result does not depend on the order in which blocks run.
"""

from numba import cuda

from sccengine.kernels.cuda import launch
from sccengine.kernels.cuda.reduction import THREADS, block_sum


@cuda.jit
def sum_rows_v1(
    x,  # (C, M): one block for each row
    out,  # (C,)
    M,
):
    row = cuda.blockIdx.x
    partial = cuda.shared.array(THREADS, x.dtype)
    total = x.dtype.type(0)
    for m in range(cuda.threadIdx.x, M, THREADS):
        total += x[row * M + m]
    total = block_sum(partial, total)
    if cuda.threadIdx.x == 0:
        out[row] = total


def sum_rows(x, out):
    """out (C,) = the sums of the rows of x (C, M)."""
    rows, columns = x.shape
    launch.blocks(sum_rows_v1, rows, THREADS, x, out, columns)


COMPILE = [
    launch.Build(sum_rows_v1, "FFi"),
]
