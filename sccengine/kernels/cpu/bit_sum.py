"""The sum of an array's bits, by which the training graph sees that somebody wrote to what it keeps for backward."""

import numpy as np
from numba import prange

from sccengine.kernels.cpu.compile import PARALLEL_WORK, jit, parallel_jit, shares
from sccengine.kernels.cpu.scc_panels import share_of


@jit
def _sum_share(words, begin, end):
    total = np.uint64(0)
    for i in range(begin, end):
        total += words[np.uint64(i)]
    return total


@parallel_jit
def _sum_words(
    words,  # (n,) uint32
    sums,  # (threads,), written
):
    for index in prange(len(sums)):
        share = np.int64(index)
        begin, end = share_of(share, len(sums), 1, len(words))
        sums[share] = _sum_share(words, begin, end)


def bit_sum(
    x,  # (n,), of 4 or 8 bytes an element
):
    """The sum of its 32-bit words, as an integer."""
    words = x.view(np.uint32)
    if len(words) < PARALLEL_WORK:
        return int(words.sum(dtype=np.uint64))
    sums = np.empty(shares(True), np.uint64)
    _sum_words(words, sums)
    return int(sums.sum())
