"""The words of NumPy's Philox stream, by their number: Philox4x64-10 (Salmon, Moraes, Dror and Shaw, "Parallel random
numbers: as easy as 1, 2, 3", SC 2011).

``np.random.Philox(key=[k0, k1], counter=[0, 0, c2, c3]).random_raw(n)[i]`` is word i % 4 of the block whose counter is
(i // 4 + 1, 0, c2, c3): NumPy counts up before it draws. No word depends on another, so every thread draws its own.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

_MASK = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_WEYL = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
_ROUNDS = 10


@cuda.jit(device=True)
def multiply_high(a, b):
    """The upper 64 bits of the product of two uint64, from the products of their halves; no sum here overflows."""
    lower = (a & _MASK) * (b & _MASK)
    middle = (a >> _HALF) * (b & _MASK) + (lower >> _HALF)
    other = (a & _MASK) * (b >> _HALF) + (middle & _MASK)
    return (a >> _HALF) * (b >> _HALF) + (middle >> _HALF) + (other >> _HALF)


@cuda.jit(device=True)
def philox_word(k0, k1, c2, c3, i):
    """Word number i (an int32 of at least 0) of the stream with key (k0, k1) and counter words c2, c3 (all uint64)."""
    c0 = np.uint64(np.uint32(i) >> np.uint32(2)) + np.uint64(1)
    c1 = np.uint64(0)
    for _ in range(_ROUNDS):
        high0, low0 = multiply_high(_MULTIPLIERS[0], c0), _MULTIPLIERS[0] * c0
        high1, low1 = multiply_high(_MULTIPLIERS[1], c2), _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 += _WEYL[0]
        k1 += _WEYL[1]
    lane = np.uint32(i) & np.uint32(3)
    if lane < 2:
        return c0 if lane == 0 else c1
    return c2 if lane == 2 else c3
