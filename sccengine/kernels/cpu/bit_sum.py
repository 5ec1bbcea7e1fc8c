"""The weighted sum of an array's bits, by which the training graph sees that somebody wrote to what it keeps.

    sum_i word[i] * weight[i] mod 2^64        weight[i] = (i + 1) * 0x9E3779B1 mod 2^32, no two alike

Each word has a weight of its own, so that values that only change places are seen, too; the sum is the same whoever
takes which part of it.
"""

import numpy as np
from numba import prange

from sccengine.kernels.cpu.compile import PARALLEL_WORK, jit, parallel_jit
from sccengine.kernels.cpu.shares import share_count, share_of

_STEP, _MASK = np.uint64(0x9E3779B1), np.uint64(0xFFFFFFFF)


@jit
def _sum_share(words, begin, end):
    total = np.uint64(0)
    for i in range(np.uint64(begin), np.uint64(end)):
        total += words[i] * ((i + np.uint64(1)) * _STEP & _MASK)
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
    """The weighted sum of its 32-bit words, as an integer."""
    words = x.view(np.uint32)
    parallel = len(words) >= PARALLEL_WORK
    sums = np.empty(share_count(parallel), np.uint64)
    _sum_words(words, sums, parallel=parallel)
    return int(sums.sum())
