"""Batch normalisation of every channel, with or without a residual and the ReLU that usually follow it.

    mean[c] = sum_m x[c,m] / M        var[c] = sum_m (x[c,m] - mean[c])**2 / M     (biased)
    xhat[c,m] = (x[c,m] - mean[c]) / sqrt(var[c] + eps)
    y[c,m] = xhat[c,m] * weight[c] + bias[c] + residual[c,m], then max(y, 0) if relu

    g = dy, or with relu: dy where y > 0, else 0 (with a residual y is kept for it, else it is recomputed from x)
    dbias[c] = sum_m g[c,m]           dweight[c] = sum_m g[c,m] * xhat[c,m]        dresidual = g
    dx = weight / sqrt(var + eps) * (g - dbias / M - xhat * dweight / M)    training: mean and var depend on x
    dx = weight / sqrt(var + eps) * g                                       inference: they are constants

    running += momentum * (batch's - running), with the unbiased variance M / (M - 1) * var; batches += 1
    momentum None: 1 / batches, which makes running the average over all batches

x, y, residual (C, M) with M = H*W*N: in batch-last memory a channel is one contiguous row. weight, bias, var (C,). The
mean is (2, C): rounded, and what rounding took off it, so that backward subtracts what forward subtracted and a mean
much larger than the deviation costs no digits. Given means (inference) are (C,). Running statistics and `batches`, one
int64, are updated by the launches themselves: no other operation, no wait.

v1: sums take one block per channel (reduction.py), the rest one thread per element. The statistics read x twice, first
for the mean and then for the deviations from it, and take the rounding error of that mean out of both:
with d = x - rough mean,  mean = rough mean + sum(d) / M  and  var = sum(d**2) / M - (sum(d) / M)**2.
v2: batch_norm_pieces.py. It needs arrays that begin at multiples of 16 bytes, as all do that are not cut out of others.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from sccengine.kernels.cuda.batch_norm_pieces import (
    AVERAGED,
    MASK_FROM_X,
    MASK_FROM_Y,
    MOVING,
    UNMASKED,
    UNTRACKED,
    gradient_sums_v2,
    infer_v2,
    input_gradient_v2,
    normalise_v2,
    statistics_v2,
)
from sccengine.kernels.cuda.indexing import quotient, thread_index
from sccengine.kernels.cuda.launch import Build, blocks, elements, empty, table
from sccengine.kernels.cuda.moments import two_sum
from sccengine.kernels.cuda.reduction import THREADS, block_sum
from sccengine.kernels.cuda.row_pieces import cut, in_fours

_NO_COUNTER = np.zeros(2, np.int32)


@cuda.jit
def statistics_v1(
    x,  # (C, M): one block for each row
    mean,  # (2, C), out: rounded, and the rest
    var,  # (C,), out
    running_mean,  # (C,), in and out
    running_var,  # (C,), in and out
    batches,  # (1,), int64: forward_v1 adds one
    length,  # M
    tracked,
    momentum,
    unbiased,  # M / (M - 1)
):
    partial = cuda.shared.array(THREADS, x.dtype)
    number = x.dtype.type
    channel = cuda.blockIdx.x
    first = np.int32(channel * length)
    count = number(length)
    total = number(0)
    for m in range(cuda.threadIdx.x, length, THREADS):
        total += x[np.uint32(first + m)]
    rough_mean = block_sum(partial, total) / count
    total = number(0)
    squares = number(0)
    for m in range(cuda.threadIdx.x, length, THREADS):
        deviation = x[np.uint32(first + m)] - rough_mean
        total += deviation
        squares += deviation * deviation
    shift = block_sum(partial, total) / count
    squares = block_sum(partial, squares) / count
    if cuda.threadIdx.x == 0:
        high, low = two_sum(rough_mean, shift)
        variance = squares - shift * shift
        # A comparison, because max(NaN, 0) is 0 on a GPU.
        if variance < 0:
            variance = number(0)
        mean[channel] = high
        mean[channel + cuda.gridDim.x] = low
        var[channel] = variance
        if tracked:
            if tracked == AVERAGED:
                momentum = number(1) / number(batches[0] + 1)
            keep = number(1) - momentum
            running_mean[channel] = keep * running_mean[channel] + momentum * high
            running_var[channel] = keep * running_var[channel] + momentum * (variance * unbiased)


@cuda.jit
def forward_v1(
    x,  # (C, M)
    residual,  # (C, M)
    weight,  # (C,)
    bias,  # (C,)
    mean,  # (2, C) in training, else (C,)
    var,  # (C,)
    batches,  # (1,), int64: one is added where counted
    y,  # (C, M)
    size,  # C * M
    length,  # M
    training,
    counted,
    with_residual,
    relu,
    eps,
):
    i = thread_index()
    if i >= size:
        return
    if i == 0 and counted:
        batches[0] += 1
    channel = np.uint32(quotient(i, length))
    distance = x[i] - mean[channel]
    if training:
        distance -= mean[channel + np.uint32(quotient(size, length))]
    inverse = x.dtype.type(1) / math.sqrt(var[channel] + eps)
    value = distance * inverse * weight[channel] + bias[channel]
    if with_residual:
        value += residual[i]
    y[i] = y.dtype.type(0) if relu and value <= 0 else value


@cuda.jit
def backward_sums_v1(
    dy,  # (C, M): one block for each row
    x,  # (C, M)
    y,  # (C, M), read where mask is MASK_FROM_Y
    weight,  # (C,)
    bias,  # (C,)
    mean,  # (2, C) in training, else (C,)
    var,  # (C,)
    g,  # (C, M), out where mask is MASK_FROM_Y
    dweight,  # (C,), out
    dbias,  # (C,), out
    length,  # M
    mask,
    training,
    eps,
):
    partial = cuda.shared.array(THREADS, x.dtype)
    number = x.dtype.type
    channel = cuda.blockIdx.x
    first = np.int32(channel * length)
    rest = mean[channel + cuda.gridDim.x] if training else number(0)
    inverse = number(1) / math.sqrt(var[channel] + eps)
    dscale = number(0)
    dshift = number(0)
    for m in range(cuda.threadIdx.x, length, THREADS):
        i = np.uint32(first + m)
        normalised = (x[i] - mean[channel] - rest) * inverse
        gradient = dy[i]
        if mask == MASK_FROM_X and normalised * weight[channel] + bias[channel] <= 0:
            gradient = number(0)
        elif mask == MASK_FROM_Y:
            if y[i] <= 0:
                gradient = number(0)
            g[i] = gradient
        dscale += gradient * normalised
        dshift += gradient
    dscale = block_sum(partial, dscale)
    dshift = block_sum(partial, dshift)
    if cuda.threadIdx.x == 0:
        dweight[channel] = dscale
        dbias[channel] = dshift


@cuda.jit
def backward_input_v1(
    g,  # (C, M): dy, or where mask is MASK_FROM_Y what backward_sums_v1 wrote
    x,  # (C, M)
    weight,  # (C,)
    bias,  # (C,)
    mean,  # (2, C) in training, else (C,)
    var,  # (C,)
    dweight,  # (C,)
    dbias,  # (C,)
    dx,  # (C, M); may be g
    size,  # C * M
    length,  # M
    mask,
    training,
    eps,
):
    i = thread_index()
    if i >= size:
        return
    channel = np.uint32(quotient(i, length))
    distance = x[i] - mean[channel]
    if training:
        distance -= mean[channel + np.uint32(quotient(size, length))]
    inverse = x.dtype.type(1) / math.sqrt(var[channel] + eps)
    normalised = distance * inverse
    gradient = g[i]
    if mask == MASK_FROM_X and normalised * weight[channel] + bias[channel] <= 0:
        gradient = dx.dtype.type(0)
    if training:
        gradient -= (dbias[channel] + normalised * dweight[channel]) / x.dtype.type(length)
    dx[i] = gradient * weight[channel] * inverse


def forward_training(x, weight, bias, residual, y, mean, var, running_mean, running_var, batches, momentum, eps, relu):
    """y (C, M), and the batch's mean (2, C) and biased var (C,), from x and residual (None: absent), both (C, M).

    running_mean and running_var (C,; None: absent) move by `momentum` towards the batch's, or become averages where it
    is None. batches (one int64; None: not counted, and no average) counts up.
    """
    channels, length = x.shape
    tracked = UNTRACKED if running_mean is None else AVERAGED if momentum is None else MOVING
    counted, batches = batches is not None, _counter(batches, x)
    running = (running_mean, running_var, batches)
    rule = (tracked, 0.0 if momentum is None else float(momentum), length / max(length - 1, 1))
    applied = (residual is not None, bool(relu), float(eps))
    if not in_fours(x, residual, y):
        blocks(statistics_v1, channels, THREADS, x, mean, var, *running, length, *rule)
        sizes = (x.size, length, True, counted)
        elements(forward_v1, x.size, x, residual, weight, bias, mean, var, batches, y, *sizes, *applied)
        return
    pieces, span, threads = cut(channels, length)
    grid = (channels, pieces)
    # Every block of an average reads the number of batches, so that is counted up one launch earlier.
    measured = pieces > 1 or tracked == AVERAGED
    partials = None
    if measured:
        partials = empty((2, *grid), like=x)
        blocks(statistics_v2, grid, threads, x, partials, batches, length, span, counted)
        counted = False
    known = (x, residual, weight, bias, partials)
    sizes = (length, span, measured, counted)
    blocks(normalise_v2, grid, threads, *known, y, mean, var, *running, *sizes, *rule, *applied)


def _counter(batches, like):
    """The counter, or where there is none an array of its type that no kernel looks at."""
    return table(_NO_COUNTER, like).view(np.int64) if batches is None else batches


def forward_inference(x, weight, bias, mean, var, residual, y, eps, relu):
    """y (C, M) from x and residual (None: absent), both (C, M), and given mean and var (C,)."""
    channels, length = x.shape
    known = (x, residual, weight, bias, mean, var)
    applied = (residual is not None, bool(relu), float(eps))
    if in_fours(x, residual, y):
        pieces, span, threads = cut(channels, length)
        blocks(infer_v2, (channels, pieces), threads, *known, y, length, span, *applied)
    else:
        sizes = (x.size, length, False, False)
        elements(forward_v1, x.size, *known, _counter(None, x), y, *sizes, *applied)


def backward_training(dy, x, y, weight, bias, mean, var, dx, dresidual, dweight, dbias, eps, relu):
    """dx and dresidual (C, M; None: not wanted), dweight and dbias (C,), with the mean and var of forward_training.

    With relu, y (C, M) is the result of a forward that had a residual, else None: then x alone tells the sign of y.
    Without relu, dresidual is dy and not written.
    """
    _backward(dy, x, y, weight, bias, mean, var, dx, dresidual, dweight, dbias, eps, relu, training=True)


def backward_inference(dy, x, y, weight, bias, mean, var, dx, dresidual, dweight, dbias, eps, relu):
    """As backward_training, where mean and var (C,) are constants."""
    _backward(dy, x, y, weight, bias, mean, var, dx, dresidual, dweight, dbias, eps, relu, training=False)


def _backward(dy, x, y, weight, bias, mean, var, dx, dresidual, dweight, dbias, eps, relu, training):
    channels, length = x.shape
    mask = UNMASKED if not relu else MASK_FROM_X if y is None else MASK_FROM_Y
    g = None if mask != MASK_FROM_Y else dx if dresidual is None else dresidual
    given = (dy, x, y, weight, bias, mean, var, g)
    rule = (mask, training, float(eps))
    if not in_fours(dy, x, y, dx, g):
        blocks(backward_sums_v1, channels, THREADS, *given, dweight, dbias, length, *rule)
        known = (dy if g is None else g, x, weight, bias, mean, var, dweight, dbias)
        elements(backward_input_v1, dx.size, *known, dx, dx.size, length, *rule)
        return
    pieces, span, threads = cut(channels, length)
    grid = (channels, pieces)
    partials = None
    if pieces > 1:
        partials = empty((2, *grid), like=x)
        blocks(gradient_sums_v2, grid, threads, *given, partials, length, span, *rule)
    results = (dx, dweight, dbias)
    blocks(input_gradient_v2, grid, threads, *given, partials, *results, length, span, pieces > 1, *rule)


COMPILE = [
    Build(statistics_v1, "FFFFFLiiff"),
    Build(forward_v1, "FFFFFFLFiiiiiif"),
    Build(backward_sums_v1, "FFFFFFFFFFiiif"),
    Build(backward_input_v1, "FFFFFFFFFiiiif"),
]
