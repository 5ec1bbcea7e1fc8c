"""Dropout: y[i] = x[i] / (1 - p) where u(key, i) >= p, else 0. The backward is the same function of dy.

u(key, i) is the top 24 bits of splitmix64's finaliser of key + (i + 1) * 0x9E3779B97F4A7C15 (mod 2**64), over 2**24
(Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014). It depends on nothing but the
key and the element's index in batch-last order: no mask is stored, and every device draws the same bits.

u >= p is decided in integers: the 24 bits as a number k have k / 2**24 >= p exactly where k >= ceil(p * 2**24).
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from sccengine.kernels.cuda.indexing import thread_index
from sccengine.kernels.cuda.launch import Build, elements, let_uint64_wrap


@cuda.jit(device=True)
def random_bits(key, i):
    """24 random bits for element i, as int32. Everything is uint64: a signed operand would turn it into float64."""
    z = key + np.uint64(i + 1) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.int32(z >> np.uint64(40))


@cuda.jit
def apply_v1(
    x,  # (M,)
    y,  # (M,)
    scale,  # 1 / (1 - p)
    threshold,  # ceil(p * 2**24)
    key,  # (1,) uint64
    M,
):
    i = thread_index()
    if i < M:
        y[i] = x[i] * scale if random_bits(key[0], i) >= threshold else y.dtype.type(0)


def apply(x, y, probability, key):
    """y from x (both flat): zero with `probability`, chosen by `key` (uint64, one element), the rest scaled up."""
    let_uint64_wrap(__name__)
    threshold = math.ceil(probability * 2**24)
    elements(apply_v1, y.size, x, y, 1.0 / (1.0 - probability), threshold, key, y.size)


COMPILE = [
    Build(apply_v1, "FFfiUi"),
]
