"""Sums of rows: out[c] = sum_m x[c, m], the bias gradient of every convolution (x = dy there).

x is (C, M) with M = H*W*N: in batch-last memory a channel is one contiguous row. No atomics: every sum is taken in the
same order on every run and every GPU. Floor: 4 bytes read a float32 element.

v1  one block a row: thread t adds elements t, t + THREADS, ... (coalesced), then the block adds its threads' sums as a
    tree; for arrays that do not begin at a multiple of 16 bytes
v2  row_pieces.py: 128 bits an access, and few long rows are cut into pieces, a block each. Their sums are the rows of a
    small array, which the same kernel sums
"""

import numpy as np
from numba import cuda

from sccengine.kernels.cuda.arguments import ELEMENT_LIMIT
from sccengine.kernels.cuda.intrinsics import load, load4, store
from sccengine.kernels.cuda.launch import Build, blocks, empty
from sccengine.kernels.cuda.reduction import THREADS, block_sum, warps_sum
from sccengine.kernels.cuda.row_pieces import bounds, cut, edge, in_fours, share_of_fours, whole_fours


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


@cuda.jit
def sum_rows_v2(
    x,  # (C, M): one block for each piece of a row
    out,  # (C, pieces)
    M,
    span,
):
    partial = cuda.shared.array(32, x.dtype)
    row, piece = np.int32(cuda.blockIdx.x), np.int32(cuda.blockIdx.y)
    first, last = bounds(row, piece, M, span)
    start, stop = whole_fours(first, last)
    own_four, stride = share_of_fours()
    # Two sums, so that two loads are under way.
    total = other = x.dtype.type(0)
    i = np.int32(start + own_four)
    while i < stop - stride:
        a0, a1, a2, a3 = load4(x, i)
        b0, b1, b2, b3 = load4(x, np.int32(i + stride))
        total += (a0 + a1) + (a2 + a3)
        other += (b0 + b1) + (b2 + b3)
        i = np.int32(i + 2 * stride)
    if i < stop:
        a0, a1, a2, a3 = load4(x, i)
        total += (a0 + a1) + (a2 + a3)
    i = edge(first, last, start, stop)
    if i < last:
        other += load(x, i)
    total = warps_sum(partial, total + other)
    if cuda.threadIdx.x == 0:
        store(out, np.int32(row * cuda.gridDim.y + piece), total)


def sum_rows(x, out):
    """out (C,) = the sums of the rows of x (C, M)."""
    rows, columns = x.shape
    if x.size >= ELEMENT_LIMIT and rows > 1:
        most = max(1, (ELEMENT_LIMIT - 1) // columns)  # rows that a launch can index;
        most = most // 4 * 4 or most  # the next ones begin at a multiple of 16 bytes, too
        for row in range(0, rows, most):
            sum_rows(x[row : row + most], out[row : row + most])
        return
    if not in_fours(x):
        blocks(sum_rows_v1, rows, THREADS, x, out, columns)
        return
    pieces, span, threads = cut(rows, columns)
    sums = out if pieces == 1 else empty((rows, pieces), like=out)
    blocks(sum_rows_v2, (rows, pieces), threads, x, sums, columns, span)
    if pieces > 1:
        sum_rows(sums, out)


COMPILE = [
    Build(sum_rows_v1, "FFi"),
    Build(sum_rows_v2, "FFii", instructions=("LDG.E.128",), registers=40),
]
