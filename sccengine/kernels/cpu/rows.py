"""Sums along rows: out[c] = sum_m x[c, m], the bias gradient of convolutions. Accumulated in float64.

scc_tiles_backward.py takes its own as it goes over dy, in float64 from chunk to chunk.
"""

from numba import prange

from sccengine.kernels.cpu.compile import PARALLEL_WORK, jit, parallel_jit


@jit
def row_sum(
    row,  # (M,)
):
    total = 0.0
    for m in range(row.size):
        total += row[m]
    return total


@parallel_jit
def _sum_rows(
    x,  # (C, M)
    out,  # (C,)
):
    for c in prange(x.shape[0]):
        out[c] = row_sum(x[c])


def sum_rows(
    x,  # (C, M)
    out,  # (C,)
):
    _sum_rows(x, out, parallel=x.size >= PARALLEL_WORK)
