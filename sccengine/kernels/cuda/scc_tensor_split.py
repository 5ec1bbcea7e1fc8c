"""Products of float32 accuracy on tensor cores: every operand as the sum of two TF32 numbers.

    a = a' + a"      a' = the first 11 bits of a, a" = a - a' rounded to 11 bits: 22 of the 24 that a has
    a b = a' b' + a' b" + a" b'        a" b", 2^-20 of it at most, is left out

The three products of SUMMED steps are added up on the tensor cores, the smallest first, and their sum is added to the
total by an ordinary addition, because tensor cores cut off what does not fit into a sum, where an addition rounds: cut
off at each of many steps, a long sum would end some 2^-24 a step too small. (Ootomo and Yokota, "Recovering single
precision accuracy from Tensor Cores while surpassing the FP32 theoretical peak performance", 2022.) With two steps the
error on an H200 was what it was with one: 1.8e-7 to 2.6e-7 of the norm.
"""

import numpy as np
from numba import cuda

from sccengine.kernels.cuda.intrinsics import bits, from_bits, mma_tf32

# The bits of a float32 that TF32 has.
KEPT = 0xFFFFE000
_HALF = 0x1000
# Steps of an mma that are added up on the tensor cores.
SUMMED = 2


@cuda.jit(device=True)
def split_tf32(value):
    """The words of the two TF32 numbers that `value` is the sum of; of an infinity itself and a zero."""
    word = np.uint32(bits(value) & np.uint32(KEPT))
    # Half a unit of the last bit that counts; tensor cores ignore those below it. What infinity less itself leaves, a
    # NaN of ones, is turned over into a zero.
    return word, np.uint32(bits(value - from_bits(word)) + np.uint32(_HALF))


@cuda.jit(device=True)
def add_products_tf32x3(a, a_rest, b, b_rest, n, c):
    """c (4,) += the sum over steps of a b, in the fragments of mma_tf32: a (steps, 4) and b[:, n : n + 2]."""
    t = (np.float32(0), np.float32(0), np.float32(0), np.float32(0))
    for step in range(len(a)):
        v, b0, b1 = a_rest[step], b[step, n], b[step, n + 1]
        t = mma_tf32(v[0], v[1], v[2], v[3], b0, b1, t[0], t[1], t[2], t[3])
        v, b0, b1 = a[step], b_rest[step, n], b_rest[step, n + 1]
        t = mma_tf32(v[0], v[1], v[2], v[3], b0, b1, t[0], t[1], t[2], t[3])
    for step in range(len(a)):
        v, b0, b1 = a[step], b[step, n], b[step, n + 1]
        t = mma_tf32(v[0], v[1], v[2], v[3], b0, b1, t[0], t[1], t[2], t[3])
    c[0] += t[0]
    c[1] += t[1]
    c[2] += t[2]
    c[3] += t[3]
