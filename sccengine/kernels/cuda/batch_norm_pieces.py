"""Batch norm v2 (formulas: batch_norm.py): pieces of rows, 128-bit accesses, one pass for the statistics.

x, y, residual, ... (C, M). A row of up to 2 * LEAST_SPAN numbers, or any row where there are many, is one piece; its
block does everything in one launch and finds the row in its cache when it reads it again. Of longer rows, a first
launch leaves the sums of every piece, and a second puts them together, each block for itself (a warp adds one number a
piece, in a fixed order: no atomics, no third launch), and writes. The second takes the blocks from the end, because
what the first read last is still in the second-level cache.

Bytes for each float32 element = 4 times             one piece a row    several pieces
    forward   x (twice), y                                 2                  3
    forward   and residual                                 3                  4
    backward  dy, x (twice), dx                            3                  5
    backward  with residual: dy, x, y, g; g, x, dx         5                  7

Where y = relu(bn(x) + residual), the sign of y is that of no function of x alone, so backward reads y, which the next
layer keeps anyway; the masked gradient g is the residual's gradient, has to be written once, and takes the place of dy
and y in the second pass. Mask bits in place of y would save 1/7 of these bytes at the price of a format and a kernel
of their own. Without a residual the mask is computed from x, by the very expression that forward used.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from sccengine.kernels.cuda.intrinsics import load, load4, store, store4, warp_sum
from sccengine.kernels.cuda.launch import Build
from sccengine.kernels.cuda.moments import piece_moments, two_sum
from sccengine.kernels.cuda.reduction import warps_sum
from sccengine.kernels.cuda.row_pieces import bounds, edge, share_of_fours, whole_fours

# How backward knows where y is 0 because of the ReLU.
UNMASKED, MASK_FROM_X, MASK_FROM_Y = 0, 1, 2
# What becomes of the running statistics.
UNTRACKED, MOVING, AVERAGED = 0, 1, 2


@cuda.jit
def statistics_v2(
    x,  # (C, M)
    partials,  # (2, C, pieces), out: mean and squares of x - x[c, 0]
    batches,  # (1,), int64: one is added where counted
    length,  # M
    span,
    counted,
):
    shared = cuda.shared.array(32, x.dtype)
    row, piece = np.int32(cuda.blockIdx.x), np.int32(cuda.blockIdx.y)
    first, last = bounds(row, piece, length, span)
    mean, squares = piece_moments(shared, x, first, last, load(x, np.int32(row * length)))
    if cuda.threadIdx.x == 0:
        i = np.int32(row * cuda.gridDim.y + piece)
        store(partials, i, mean)
        store(partials, np.int32(i + cuda.gridDim.x * cuda.gridDim.y), squares)
        if i == 0 and counted:
            store(batches, 0, load(batches, 0) + 1)


@cuda.jit
def normalise_v2(
    x,  # (C, M)
    residual,  # (C, M)
    weight,  # (C,)
    bias,  # (C,)
    partials,  # (2, C, pieces) of statistics_v2
    y,  # (C, M), out
    mean,  # (2, C), out: rounded, and the rest
    var,  # (C,), out
    running_mean,  # (C,), in and out
    running_var,  # (C,), in and out
    batches,  # (1,), int64: one is added where counted
    length,  # M
    span,
    measured,  # whether statistics_v2 ran; if not, there is one piece
    counted,
    tracked,
    momentum,
    unbiased,  # M / (M - 1)
    with_residual,
    relu,
    eps,
):
    shared = cuda.shared.array(32, x.dtype)
    number = x.dtype.type
    row = np.int32(cuda.gridDim.x - 1 - cuda.blockIdx.x)
    piece = np.int32(cuda.gridDim.y - 1 - cuda.blockIdx.y)
    first, last = bounds(row, piece, length, span)
    origin = load(x, np.int32(row * length))
    if measured:
        centre, variance = _merged_moments(partials, row, length, span)
    else:
        centre, variance = piece_moments(shared, x, first, last, origin)
    variance /= number(length)
    high, low = two_sum(origin, centre)
    if piece == 0 and cuda.threadIdx.x == 0:
        store(mean, row, high)
        store(mean, np.int32(row + cuda.gridDim.x), low)
        store(var, row, variance)
        if counted and row == 0:
            store(batches, 0, load(batches, 0) + 1)
        if tracked:
            if tracked == AVERAGED:
                momentum = number(1) / number(load(batches, 0))
            _move(running_mean, row, high, momentum)
            _move(running_var, row, variance * unbiased, momentum)
    scale = load(weight, row) / math.sqrt(variance + eps)
    _write_outputs(x, residual, y, first, last, high, low, scale, load(bias, row), with_residual, relu)


@cuda.jit
def infer_v2(
    x,  # (C, M)
    residual,  # (C, M)
    weight,  # (C,)
    bias,  # (C,)
    mean,  # (C,)
    var,  # (C,)
    y,  # (C, M), out
    length,  # M
    span,
    with_residual,
    relu,
    eps,
):
    row = np.int32(cuda.blockIdx.x)
    first, last = bounds(row, np.int32(cuda.blockIdx.y), length, span)
    scale = load(weight, row) / math.sqrt(load(var, row) + eps)
    zero = x.dtype.type(0)
    _write_outputs(x, residual, y, first, last, load(mean, row), zero, scale, load(bias, row), with_residual, relu)


@cuda.jit
def gradient_sums_v2(
    dy,  # (C, M)
    x,  # (C, M)
    y,  # (C, M), read where mask is MASK_FROM_Y
    weight,  # (C,)
    bias,  # (C,)
    mean,  # (2, C) in training, else (C,)
    var,  # (C,)
    g,  # (C, M), out where mask is MASK_FROM_Y
    partials,  # (2, C, pieces), out: sum(g) and sum(g * (x - mean))
    length,  # M
    span,
    mask,
    training,
    eps,
):
    shared = cuda.shared.array(32, x.dtype)
    row, piece = np.int32(cuda.blockIdx.x), np.int32(cuda.blockIdx.y)
    first, last = bounds(row, piece, length, span)
    high, low = _mean(mean, row, training)
    scale = load(weight, row) / math.sqrt(load(var, row) + eps)
    total, moment = _gradient_sums(shared, dy, x, y, g, first, last, high, low, scale, load(bias, row), mask)
    if cuda.threadIdx.x == 0:
        i = np.int32(row * cuda.gridDim.y + piece)
        store(partials, i, total)
        store(partials, np.int32(i + cuda.gridDim.x * cuda.gridDim.y), moment)


@cuda.jit
def input_gradient_v2(
    dy,  # (C, M)
    x,  # (C, M)
    y,  # (C, M), read where mask is MASK_FROM_Y
    weight,  # (C,)
    bias,  # (C,)
    mean,  # (2, C) in training, else (C,)
    var,  # (C,)
    g,  # (C, M), where mask is MASK_FROM_Y; may be dx
    partials,  # (2, C, pieces) of gradient_sums_v2
    dx,  # (C, M), out
    dweight,  # (C,), out
    dbias,  # (C,), out
    length,  # M
    span,
    measured,  # whether gradient_sums_v2 ran; if not, there is one piece
    mask,
    training,
    eps,
):
    shared = cuda.shared.array(32, x.dtype)
    number = x.dtype.type
    row = np.int32(cuda.gridDim.x - 1 - cuda.blockIdx.x)
    piece = np.int32(cuda.gridDim.y - 1 - cuda.blockIdx.y)
    first, last = bounds(row, piece, length, span)
    high, low = _mean(mean, row, training)
    deviation = math.sqrt(load(var, row) + eps)
    scale = load(weight, row) / deviation
    shift = load(bias, row)
    if measured:
        total = _sum_of_pieces(partials, row, np.int32(0))
        moment = _sum_of_pieces(partials, row, np.int32(1))
    else:
        total, moment = _gradient_sums(shared, dy, x, y, g, first, last, high, low, scale, shift, mask)
    if piece == 0 and cuda.threadIdx.x == 0:
        store(dbias, row, total)
        store(dweight, row, moment / deviation)
    slope = offset = number(0)
    if training:
        slope = -scale * (moment / number(length)) / (deviation * deviation)
        offset = -scale * (total / number(length))
    zero = number(0)
    # A thread reads back from g what it wrote itself.
    source = g if mask == MASK_FROM_Y else dy
    start, stop = whole_fours(first, last)
    own_four, stride = share_of_fours()
    for i in range(np.int32(start + own_four), stop, stride):
        d = _from_mean(load4(x, i), high, low)
        gradient = load4(source, i)
        if mask == MASK_FROM_X:
            gradient = _masked(gradient, _scaled(d, scale, shift), zero)
        store4(
            dx,
            i,
            scale * gradient[0] + (slope * d[0] + offset),
            scale * gradient[1] + (slope * d[1] + offset),
            scale * gradient[2] + (slope * d[2] + offset),
            scale * gradient[3] + (slope * d[3] + offset),
        )
    i = edge(first, last, start, stop)
    if i < last:
        distance = (load(x, i) - high) - low
        gradient = load(source, i)
        if mask == MASK_FROM_X:
            gradient = _unless_negative(distance * scale + shift, gradient, zero)
        store(dx, i, scale * gradient + (slope * distance + offset))


@cuda.jit(device=True)
def _merged_moments(partials, row, length, span):
    """Mean and sum of squares of a row from those of its pieces: step 3 of moments.py, a lane a piece."""
    number = partials.dtype.type
    lane = np.int32(cuda.threadIdx.x % 32)
    count = mean = squares = number(0)
    if lane < cuda.gridDim.y:
        count = number(min(span, np.int32(length - lane * span)))
        i = np.int32(row * cuda.gridDim.y + lane)
        mean = load(partials, i)
        squares = load(partials, np.int32(i + cuda.gridDim.x * cuda.gridDim.y))
    row_mean = warp_sum(count * mean) / number(length)
    return row_mean, warp_sum(squares + count * (mean - row_mean) * (mean - row_mean))


@cuda.jit(device=True)
def _sum_of_pieces(partials, row, which):
    lane = np.int32(cuda.threadIdx.x % 32)
    value = partials.dtype.type(0)
    if lane < cuda.gridDim.y:
        value = load(partials, np.int32((which * cuda.gridDim.x + row) * cuda.gridDim.y + lane))
    return warp_sum(value)


@cuda.jit(device=True)
def _move(running, row, value, momentum):
    store(running, row, (running.dtype.type(1) - momentum) * load(running, row) + momentum * value)


@cuda.jit(device=True)
def _mean(mean, row, training):
    """The mean and what rounding took off it; given means (inference) have no such rest."""
    rest = load(mean, np.int32(row + cuda.gridDim.x)) if training else mean.dtype.type(0)
    return load(mean, row), rest


@cuda.jit(device=True)
def _from_mean(x, high, low):
    return (x[0] - high) - low, (x[1] - high) - low, (x[2] - high) - low, (x[3] - high) - low


@cuda.jit(device=True)
def _unless_negative(value, result, zero):
    """`result`, or zero where value <= 0: max(value, 0) of a value itself, or of a gradient. NaN counts as positive."""
    return zero if value <= 0 else result


@cuda.jit(device=True)
def _masked(gradient, values, zero):
    return (
        _unless_negative(values[0], gradient[0], zero),
        _unless_negative(values[1], gradient[1], zero),
        _unless_negative(values[2], gradient[2], zero),
        _unless_negative(values[3], gradient[3], zero),
    )


@cuda.jit(device=True)
def _scaled(distances, scale, shift):
    return (
        distances[0] * scale + shift,
        distances[1] * scale + shift,
        distances[2] * scale + shift,
        distances[3] * scale + shift,
    )


@cuda.jit(device=True)
def _write_outputs(x, residual, y, first, last, high, low, scale, shift, with_residual, relu):
    """y[first:last] = (x - mean) * scale + shift, plus the residual, no less than 0 where relu."""
    zero = x.dtype.type(0)
    start, stop = whole_fours(first, last)
    own_four, stride = share_of_fours()
    for i in range(np.int32(start + own_four), stop, stride):
        v = _scaled(_from_mean(load4(x, i), high, low), scale, shift)
        if with_residual:
            r = load4(residual, i)
            v = v[0] + r[0], v[1] + r[1], v[2] + r[2], v[3] + r[3]
        if relu:
            v = _masked(v, v, zero)
        store4(y, i, v[0], v[1], v[2], v[3])
    i = edge(first, last, start, stop)
    if i < last:
        value = ((load(x, i) - high) - low) * scale + shift
        if with_residual:
            value += load(residual, i)
        store(y, i, _unless_negative(value, value, zero) if relu else value)


@cuda.jit(device=True)
def _gradient_sums(shared, dy, x, y, g, first, last, high, low, scale, shift, mask):
    """sum(g) and sum(g * (x - mean)) over first..last, to every thread; g is written where it is masked from y."""
    zero = x.dtype.type(0)
    total = moment = zero
    start, stop = whole_fours(first, last)
    own_four, stride = share_of_fours()
    for i in range(np.int32(start + own_four), stop, stride):
        d = _from_mean(load4(x, i), high, low)
        gradient = load4(dy, i)
        if mask == MASK_FROM_X:
            gradient = _masked(gradient, _scaled(d, scale, shift), zero)
        elif mask == MASK_FROM_Y:
            gradient = _masked(gradient, load4(y, i), zero)
            store4(g, i, gradient[0], gradient[1], gradient[2], gradient[3])
        total += (gradient[0] + gradient[1]) + (gradient[2] + gradient[3])
        moment += (gradient[0] * d[0] + gradient[1] * d[1]) + (gradient[2] * d[2] + gradient[3] * d[3])
    i = edge(first, last, start, stop)
    if i < last:
        distance = (load(x, i) - high) - low
        gradient = load(dy, i)
        if mask == MASK_FROM_X:
            gradient = _unless_negative(distance * scale + shift, gradient, zero)
        elif mask == MASK_FROM_Y:
            gradient = _unless_negative(load(y, i), gradient, zero)
            store(g, i, gradient)
        total += gradient
        moment += gradient * distance
    return warps_sum(shared, total), warps_sum(shared, moment)


_VECTORS = {"instructions": ("LDG.E.128", "STG.E.128"), "registers": 64}
COMPILE = [
    Build(statistics_v2, "FFLiii", instructions=("LDG.E.128",), registers=64),
    Build(normalise_v2, "FFFFFFFFFFLiiiiiffiif", **_VECTORS),
    Build(infer_v2, "FFFFFFFiiiif", **_VECTORS),
    Build(gradient_sums_v2, "FFFFFFFFFiiiif", **_VECTORS),
    Build(input_gradient_v2, "FFFFFFFFFFFFiiiiif", **_VECTORS),
]
