"""Convolutions' biases and batch norms folded into their weights.

    folded[r] = scale[r] * weight[r]        scale = gamma / sqrt(var + eps)
    shift[r]  = beta + (bias - mean) * scale

`present` says what a stage has; what it has not counts as scale 1, shift 0. It is done anew at every call, so nothing
is kept that could go stale: the weights are read and written once, which takes less than the launch.

fold              both stages, as they are
fold_and_pack     both stages of separable_tiles.py in one launch: the 1x1 weights go into panels (scc_register_pack.py)
                  on this occasion, the taps of a channel and its shift into whole vectors
"""

import math

import numpy as np
from numba import cuda

from sccengine.kernels.cuda import launch
from sccengine.kernels.cuda.indexing import quotient, thread_index
from sccengine.kernels.cuda.intrinsics import load, store
from sccengine.kernels.cuda.scc_pack import entry, tables_of

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


@cuda.jit(device=True)
def fold_entry(i, weight, bias, gamma, beta, mean, var, folded, shift, present, T, eps):
    """Folds weight i of a stage, and with the first of a row its shift."""
    r = quotient(i, T)
    scale = scale_of(r, gamma, var, present, eps)
    store(folded, i, load(weight, i) * scale)
    if i == np.int32(r * T):
        store(shift, r, shift_of(r, scale, bias, beta, mean, present))


@cuda.jit
def fold_v1(
    weight,  # (O, K), of the 1x1 stage
    bias,  # (O,), read only if present, like the next four
    gamma,  # (O,)
    beta,  # (O,)
    mean,  # (O,)
    var,  # (O,)
    folded,  # (O, K), out
    shift,  # (O,), out
    depthwise_weight,  # (C, T), of the depthwise stage, like the next seven
    depthwise_bias,  # (C,)
    depthwise_gamma,  # (C,)
    depthwise_beta,  # (C,)
    depthwise_mean,  # (C,)
    depthwise_var,  # (C,)
    taps,  # (C, T), out
    depthwise_shift,  # (C,), out
    present,
    depthwise_present,
    K,
    T,
    size,  # O * K
    depthwise_size,  # C * T
    eps,
    depthwise_eps,
):
    i = thread_index()
    if i < size:
        fold_entry(i, weight, bias, gamma, beta, mean, var, folded, shift, present, K, eps)
    elif i < size + depthwise_size:
        i = np.int32(i - size)
        arrays = depthwise_weight, depthwise_bias, depthwise_gamma, depthwise_beta, depthwise_mean, depthwise_var
        fold_entry(i, *arrays, taps, depthwise_shift, depthwise_present, T, depthwise_eps)


def statistics(stage):
    """The arrays of a stage that the kernels take, and `present`."""
    arrays = stage.bias, stage.gamma, stage.beta, stage.mean
    present = sum(bit for bit, array in zip((BIAS, GAMMA, BETA, MEAN), arrays) if array is not None)
    return (*arrays, stage.var), present


def fold(depthwise_stage, mixing_stage):
    """(taps, shift) of the depthwise stage and (weight, shift) of the 1x1 stage, folded."""
    stages = mixing_stage, depthwise_stage
    arrays, present, results = [], [], []
    for stage in stages:
        weight = stage.weight
        found, bits = statistics(stage)
        results.append((launch.empty(weight.shape, like=weight), launch.empty((len(weight),), like=weight)))
        arrays += [weight, *found, *results[-1]]
        present.append(bits)
    sizes = [stage.weight.size for stage in stages]
    rows = [size // len(stage.weight) for size, stage in zip(sizes, stages)]
    rates = [float(stage.eps) for stage in stages]
    launch.elements(fold_v1, sum(sizes), *arrays, *present, *rows, *sizes, *rates)
    return results[1], results[0]


@cuda.jit
def fold_and_pack_v1(
    weight,  # (O, K), of the 1x1 stage, like the next five, which are read only if present
    bias,  # (O,)
    gamma,  # (O,)
    beta,  # (O,)
    mean,  # (O,)
    var,  # (O,)
    rows,  # (slabs, tile): one block for each slab
    sources,  # (slabs, depth)
    starts,  # (slabs, tile)
    packed,  # (slabs, depth, tile), out
    shift,  # (O,), out
    depthwise_weight,  # (C, T), of the depthwise stage, like the next five
    depthwise_bias,  # (C,)
    depthwise_gamma,  # (C,)
    depthwise_beta,  # (C,)
    depthwise_mean,  # (C,)
    depthwise_var,  # (C,)
    taps,  # (C, pitch), out: a channel's taps, its shift, zeros
    present,
    depthwise_present,
    slabs,
    tile,
    depth,
    C,
    K,
    O,
    T,
    pitch,
    eps,
    depthwise_eps,
):
    zero = weight.dtype.type(0)
    block = np.int32(cuda.blockIdx.x)
    if block < slabs:
        for e in range(cuda.threadIdx.x, tile * depth, launch.BLOCK):
            d = quotient(e, tile)
            row_at = np.int32(block * tile + e - d * tile)
            f = load(rows, row_at)
            c = load(sources, np.int32(block * depth + d))
            value = entry(weight, f, c, load(starts, row_at), False, C, K)
            if f >= 0:
                value *= scale_of(f, gamma, var, present, eps)
            store(packed, np.int32(block * tile * depth + e), value)
        return
    i = np.int32((block - slabs) * launch.BLOCK + cuda.threadIdx.x)
    size = np.int32(C * pitch)
    if i < size:
        c = quotient(i, pitch)
        t = np.int32(i - c * pitch)
        value = zero
        if t <= T:
            value = scale_of(c, depthwise_gamma, depthwise_var, depthwise_present, depthwise_eps)
            if t < T:
                value *= load(depthwise_weight, np.int32(c * T + t))
            else:
                value = shift_of(c, value, depthwise_bias, depthwise_beta, depthwise_mean, depthwise_present)
        store(taps, i, value)
    elif i < size + O:
        f = np.int32(i - size)
        scale = scale_of(f, gamma, var, present, eps)
        store(shift, f, shift_of(f, scale, bias, beta, mean, present))


def fold_and_pack(depthwise_stage, mixing_stage, windows, shape, pitch):
    """taps (C, pitch), packed (slabs, depth, tile) for tiles of `shape`, and the shift (O,) of the 1x1 stage."""
    weight, depthwise_weight = mixing_stage.weight, depthwise_stage.weight
    tables = tables_of(windows, False, shape.tile, shape.depth)
    filters, channels, slabs = len(weight), len(depthwise_weight), len(tables[0])
    packed = launch.empty((slabs, shape.depth, shape.tile), like=weight)
    shift = launch.empty((filters,), like=weight)
    taps = launch.empty((channels, pitch), like=weight)
    tables = [launch.table(each, weight) for each in tables]
    mixing, present = statistics(mixing_stage)
    depthwise, depthwise_present = statistics(depthwise_stage)
    cut = slabs, shape.tile, shape.depth
    sizes = channels, windows.width, filters, depthwise_weight.size // channels, pitch
    launch.blocks(
        fold_and_pack_v1,
        slabs + launch.divide_up(taps.size + filters, launch.BLOCK),
        launch.BLOCK,
        *(weight, *mixing, *tables, packed, shift),
        *(depthwise_weight, *depthwise, taps),
        *(present, depthwise_present, *cut, *sizes, float(mixing_stage.eps), float(depthwise_stage.eps)),
    )
    return taps, packed, shift


COMPILE = [
    launch.Build(fold_v1, "F" * 16 + "iiiiii" + "ff"),
    launch.Build(fold_and_pack_v1, "FFFFFFIIIFFFFFFFFF" + "i" * 10 + "ff", dtypes=("float32",)),
]
