"""Dropout by counter: element i is kept where uniform(key, i) >= p, and scaled by 1 / (1 - p).

uniform(key, i) is the splitmix64 finaliser (Steele, Lea and Flood 2014) of key + (i + 1) * 0x9E3779B97F4A7C15 modulo
2**64, its top 24 bits as a fraction of 2**24. i counts in batch-last order. The backward pass applies the same
function to dy, so no mask is stored; any thread and either backend computes the same bits.
"""

import math

import numpy as np
from numba import prange

from sccengine.kernels.cpu.compile import BLOCK, PARALLEL_WORK, jit, parallel_jit

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_27, _30, _31, _40 = (np.uint64(bits) for bits in (27, 30, 31, 40))


@jit
def _keep(
    x,  # (n,)
    y,  # (n,)
    state,  # uint64: key + (index of the first element) * _STEP
    threshold,  # uint64: kept if the 24 random bits reach it
    scale,
):
    factor = y.dtype.type(scale)
    zero = y.dtype.type(0)
    for i in range(y.size):
        z = state + np.uint64(i + 1) * _STEP
        z = (z ^ (z >> _30)) * _FIRST
        z = (z ^ (z >> _27)) * _SECOND
        z = z ^ (z >> _31)
        y[i] = x[i] * factor if (z >> _40) >= threshold else zero


@parallel_jit
def _apply(
    x,  # (n,)
    y,  # (n,)
    key,
    threshold,
    scale,
):
    for block in prange((y.size + BLOCK - 1) // BLOCK):
        begin = block * BLOCK
        part = slice(begin, begin + BLOCK)
        _keep(x[part], y[part], key + np.uint64(begin) * _STEP, threshold, scale)


def apply(
    x,  # (n,)
    y,  # (n,)
    probability,  # float in [0, 1)
    key,  # (1,) uint64
):
    threshold = np.uint64(math.ceil(probability * 2**24))
    _apply(x, y, key[0], threshold, 1.0 / (1.0 - probability), parallel=4 * x.size >= PARALLEL_WORK)
