"""A depthwise separable block in evaluation on the CPU, without an image between its two convolutions in memory.

    z[c] = scale[c] * depthwise(x)[c] + shift[c],                                    then max(z, 0) if asked for
    y[f] = scale[f] * sum_{k<K} weight[f, k] * z[(start[f] + k) mod C] + shift[f],   then max(y, 0) if asked for

scale and shift are a stage's bias and batch norm folded together, in float64:

    scale = gamma / sqrt(var + eps)        shift = beta + (bias - mean) * scale

The scales go into the weights of both stages, so neither costs a pass over an image, nor does a ReLU, which the
microkernels apply before they store. A thread makes output rows: so many at a time that z of all channels stays in its
second-level cache, first all of z (depthwise.py), then y from it (scc_tiles.py). Memory carries x and y, and nothing
else. Where the batch is short or there are too few rows for the threads, both stages run on the whole image, one after
the other; the bits do not depend on the threads.
"""

import math

import numpy as np
from numba import prange

from sccengine.kernels.cpu import depthwise, scc_columns, scc_tiles
from sccengine.kernels.cpu.compile import jit, parallel_jit
from sccengine.kernels.cpu.depthwise_runs import forward_runs, gather_plane
from sccengine.kernels.cpu.scc_panels import pack_weights, packed_offsets, tile_size
from sccengine.kernels.cpu.scc_tiles import contract_group, is_large, tiles_of
from sccengine.kernels.cpu.shares import scratch, share_count
from sccengine.kernels.cpu.simd import is_short_batch, lowest

#: Elements of z that a thread makes at a time: a quarter of a second-level cache in float32.
_STRIP_ELEMENTS = 1 << 17


@jit
def _fold(
    bias,  # (R,), or empty: absent, as all of these may be
    gamma,  # (R,)
    beta,  # (R,)
    mean,  # (R,)
    var,  # (R,), absent where mean is
    eps,
    scale,  # (R,), written
    shift,  # (R,), written
):
    for r in range(scale.size):
        factor = 1.0
        offset = bias[r] if bias.size else 0.0
        if mean.size:
            factor = 1.0 / math.sqrt(var[r] + eps)
            if gamma.size:
                factor *= gamma[r]
            offset = (offset - mean[r]) * factor
            if beta.size:
                offset += beta[r]
        scale[r] = factor
        shift[r] = offset


def _folded(stage):
    """(scale, shift), both (R,), of a stage."""
    weight = stage.weight
    arrays = (stage.bias, stage.gamma, stage.beta, stage.mean, stage.var)
    scale, shift = np.empty((2, len(weight)), weight.dtype)
    absent = scale[:0]
    _fold(*(absent if array is None else array for array in arrays), float(stage.eps), scale, shift)
    return scale, shift


@jit
def _rows(begin, end, x, depthwise_stage, tiles, packed, packed_at, bias, floor, y):
    """Output rows begin to end, a strip of them at a time."""
    weight, shift, z_floor, runs, columns = depthwise_stage
    channels = x.shape[0]
    _, height, width, batch = y.shape
    row = width * batch
    strip = min(max(_STRIP_ELEMENTS // (channels * row), 1), end - begin)
    images = scratch(channels * strip * row, x.dtype)
    flat = y.reshape(-1)
    for top in range(begin, end, strip):
        count = min(strip, end - top)
        size = count * row
        z = images[: channels * size]
        image = z.reshape((channels, count, width, batch))
        for c in range(channels):
            gather_plane(x, c, weight, c, shift[c], False, image, c, runs[top : top + count], columns, z_floor)
        source = (np.int64(0), size, z, size)
        contract_group(*source, *tiles, packed, packed_at, bias, floor, flat, height * row, top * row)


@parallel_jit
def _by_rows(
    groups,  # of output rows, one a thread
    x,  # (C, H, W, N)
    taps,  # (C, kh, kw), scaled
    shift,  # (C,)
    z_floor,  # 0 for ReLU, -inf for none
    runs,  # of depthwise_runs.py: output rows,
    columns,  # and columns
    weight,  # (O, K) flat
    scale,  # (O,)
    starts,  # (O,)
    width,  # K
    panel,  # the Tiles, as for scc_tiles.contract
    first,
    length,
    rows,
    bias,  # (O,)
    floor,
    y,  # (O, HO, WO, N), written
):
    packed_at = packed_offsets(length, np.int64(1), tile_size(rows, first))
    packed = np.empty(packed_at[-1], x.dtype)
    depthwise_stage = (taps, shift, z_floor, runs, columns)
    windows = (starts, np.int64(x.shape[0]), width, False)
    tiles = (panel, first, length, rows)
    height = y.shape[1]
    for index in prange(len(first)):
        tile = np.int64(index)
        pack_weights(tile, weight, scale, *windows, *tiles, packed, packed_at[tile])
    for index in prange(groups):
        group = np.int64(index)
        begin, end = group * height // groups, (group + 1) * height // groups
        _rows(begin, end, x, depthwise_stage, tiles, packed, packed_at, bias, floor, y)


def forward(
    x,  # (C, H, W, N)
    depthwise_stage,  # weight (C, kh, kw); bias, gamma, beta, mean, var (C,) or None; eps, relu
    mixing_stage,  # weight (O, K); bias, gamma, beta, mean, var (O,) or None; eps, relu
    y,  # (O, HO, WO, N), written
    windows,  # ChannelWindows
    stride,  # (h, w)
    padding,  # (h, w)
    precision,  # of the products: full, here
):
    scale, shift = _folded(depthwise_stage)
    taps = depthwise_stage.weight * scale[:, None, None]
    scale, bias = _folded(mixing_stage)
    weight = mixing_stage.weight
    tiles = tiles_of(windows)
    filters, height, width, batch = y.shape
    parallel = is_large(tiles, y.size // filters)
    groups = share_count(parallel)
    uneven = height % groups > 0 and height < 4 * groups
    small = len(x) * height * width * batch <= groups * _STRIP_ELEMENTS
    if is_short_batch(x) or scc_columns.serves(_flat(y)) or uneven or small:
        z = np.empty((len(x), height, width, batch), x.dtype)
        depthwise.forward(x, taps, shift, z, stride, padding, depthwise_stage.relu)
        scc_tiles.contract(_flat(z), weight, bias, _flat(y), windows, mixing_stage.relu, scale)
        return
    _by_rows(
        groups,
        x,
        taps,
        shift,
        lowest(x.dtype, depthwise_stage.relu),
        *forward_runs(x, y, taps.shape[1:], stride, padding),
        weight.reshape(-1),
        scale,
        windows.starts,
        windows.width,
        *tiles.tables,
        bias,
        lowest(y.dtype, mixing_stage.relu),
        y,
        parallel=parallel,
    )


def _flat(image):
    return image.reshape(len(image), -1)
