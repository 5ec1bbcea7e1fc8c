"""A convolution's bias and batch norm folded into its weights, by one launch.

    folded[r] = scale[r] * weight[r]        scale = gamma / sqrt(var + eps)
    shift[r]  = beta + (bias - mean) * scale

`present` says what a stage has; what it has not counts as scale 1, shift 0. A launch reads and writes the weights once:
next to nothing, and nothing is kept that could go stale.
"""

import math

import numpy as np
from numba import cuda

from sccengine.kernels.cuda import launch
from sccengine.kernels.cuda.indexing import quotient, thread_index
from sccengine.kernels.cuda.intrinsics import load, store

# Bits of `present`; mean and var come together.
BIAS, GAMMA, BETA, MEAN = 1, 2, 4, 8


@cuda.jit(device=True)
def scale_of(r, gamma, var, present, eps):
    """What row r of the weights is multiplied by."""
    one = gamma.dtype.type(1)
    if not present & MEAN:
        return one
    scale = one / math.sqrt(load(var, r) + eps)
    return scale * load(gamma, r) if present & GAMMA else scale


@cuda.jit(device=True)
def shift_of(r, scale, bias, beta, mean, present):
    """What is added to channel r of the result."""
    shift = load(bias, r) if present & BIAS else bias.dtype.type(0)
    if present & MEAN:
        shift = (shift - load(mean, r)) * scale
    return shift + load(beta, r) if present & BETA else shift


@cuda.jit
def fold_v1(
    weight,  # (R, T)
    bias,  # (R,), read only if present, like the next four
    gamma,  # (R,)
    beta,  # (R,)
    mean,  # (R,)
    var,  # (R,)
    folded,  # (R, T)
    shift,  # (R,)
    present,
    T,
    size,  # R * T
    eps,
):
    i = thread_index()
    if i >= size:
        return
    r = quotient(i, T)
    scale = scale_of(r, gamma, var, present, eps)
    store(folded, i, load(weight, i) * scale)
    if i == np.int32(r * T):
        store(shift, r, shift_of(r, scale, bias, beta, mean, present))


def statistics(stage):
    """The arrays of a stage that the kernels take, and `present`."""
    arrays = stage.bias, stage.gamma, stage.beta, stage.mean
    present = sum(bit for bit, array in zip((BIAS, GAMMA, BETA, MEAN), arrays) if array is not None)
    return (*arrays, stage.var), present


def fold(stage):
    """(weight, shift) of a stage, folded."""
    arrays, present = statistics(stage)
    weight = stage.weight
    # empty_like is NumPy's or CuPy's, after the array it is given.
    folded, shift = np.empty_like(weight), np.empty_like(weight, shape=len(weight))
    sizes = weight.size // len(weight), weight.size
    launch.elements(fold_v1, weight.size, weight, *arrays, folded, shift, present, *sizes, float(stage.eps))
    return folded, shift


COMPILE = [launch.Build(fold_v1, "FFFFFFFFiiif")]
