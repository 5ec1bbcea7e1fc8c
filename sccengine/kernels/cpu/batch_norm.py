"""Batch norm over rows of M = H*W*N numbers, with a residual and ReLU folded in where asked for.

    y = (x - mean) * inv * weight + bias + residual,   inv = 1 / sqrt(var + eps)       var: biased, over the row
    training:   dx = weight * inv * (g - mean(g) - (x - mean) * inv**2 * mean(g * (x - mean)))
    inference:  dx = weight * inv * g       dweight = inv * sum(g * (x - mean))       dbias = sum(g)
    g = dy, with ReLU g = dy where y > 0. Without a residual that is recomputed from x. With one, y is read, which the
    next layer keeps anyway, and g is written: it is the residual's gradient, and takes dy's place in the second pass
    running += momentum * (batch's - running), with the unbiased variance; batches += 1; momentum None: 1 / batches

A row is read from memory once and stays in cache for the second pass over it, and it is memory that sets the time: 8
bytes a number forward and 12 backward in float32, and the 4 that a cache line written was read before. Numbers are
summed in the data's type within a block, blocks in float64. Every x is taken relative to a center near the mean, which
is exact where |mean| >> std. The statistics take that of the row's first block, a share p of the row: it lies off the
mean by less than sqrt(var / p), so the squares around it exceed the variance by less than 1 + 1 / p. The mean is handed
on in two numbers of the data's type, rounded and what rounding took off it, so that backward subtracts what forward
subtracted.
"""

import math

import numpy as np
from numba import prange

from sccengine.kernels.cpu.compile import PARALLEL_WORK, jit, parallel_jit
from sccengine.kernels.cpu.rows import row_sum

# Elements that are summed in the data's type, each lane of a vector a few dozen of them.
_SUM_BLOCK = 1024


@jit
def _moments_around(
    x,  # (M,)
    center,  # of the type of x
):
    """sum(x - center), sum((x - center)**2)"""
    total = 0.0
    squares = 0.0
    for begin in range(0, x.size, _SUM_BLOCK):
        block = x[begin : begin + _SUM_BLOCK]
        part = part_squares = x.dtype.type(0)
        for m in range(block.size):
            distance = block[m] - center
            part += distance
            part_squares += distance * distance
        total += part
        squares += part_squares
    return total, squares


@jit
def _mean_and_variance(
    x,  # (M,)
):
    sample = x[:_SUM_BLOCK]
    center = x.dtype.type(row_sum(sample) / sample.size)
    total, squares = _moments_around(x, center)
    shift = total / x.size
    variance = squares / x.size - shift * shift
    return center + shift, 0.0 if variance < 0.0 else variance


@jit
def _scale_row(
    x,  # (M,)
    y,  # (M,)
    center,
    scale,
    shift,
    relu,
):
    zero = y.dtype.type(0)
    if relu:
        for m in range(x.size):
            value = (x[m] - center) * scale + shift
            y[m] = zero if value <= zero else value
    else:
        for m in range(x.size):
            y[m] = (x[m] - center) * scale + shift


@jit
def _scale_and_add_row(
    x,  # (M,)
    residual,  # (M,)
    y,  # (M,)
    center,
    scale,
    shift,
    relu,
):
    zero = y.dtype.type(0)
    if relu:
        for m in range(x.size):
            value = (x[m] - center) * scale + shift + residual[m]
            y[m] = zero if value <= zero else value
    else:
        for m in range(x.size):
            y[m] = (x[m] - center) * scale + shift + residual[m]


@jit
def _gradient_sums(
    dy,  # (M,)
    x,  # (M,)
    center,
    scale,
    shift,
    relu,
):
    """sum(g), sum(g * (x - center))"""
    zero = x.dtype.type(0)
    total = 0.0
    moment = 0.0
    for begin in range(0, x.size, _SUM_BLOCK):
        gradients, values = dy[begin : begin + _SUM_BLOCK], x[begin : begin + _SUM_BLOCK]
        part = part_moment = zero
        if relu:
            for m in range(values.size):
                distance = values[m] - center
                g = zero if distance * scale + shift <= zero else gradients[m]
                part += g
                part_moment += g * distance
        else:
            for m in range(values.size):
                part += gradients[m]
                part_moment += gradients[m] * (values[m] - center)
        total += part
        moment += part_moment
    return total, moment


@jit
def _input_gradient(
    dy,  # (M,)
    x,  # (M,)
    dx,  # (M,)
    center,
    scale,
    shift,
    slope,
    offset,
    relu,
):
    """dx = scale * g + slope * (x - center) + offset"""
    zero = dx.dtype.type(0)
    if relu:
        for m in range(x.size):
            distance = x[m] - center
            g = zero if distance * scale + shift <= zero else dy[m]
            dx[m] = scale * g + (slope * distance + offset)
    else:
        for m in range(x.size):
            dx[m] = scale * dy[m] + (slope * (x[m] - center) + offset)


@jit
def _mask(
    dy,  # (M,)
    y,  # (M,)
    g,  # (M,), written
):
    zero = g.dtype.type(0)
    for m in range(g.size):
        g[m] = zero if y[m] <= zero else dy[m]


@jit
def _write_row(
    c,
    x,  # (C, M)
    weight,  # (C,)
    bias,  # (C,)
    mean,  # (2, C) in training, else (1, C)
    var,  # (C,)
    residual,  # (C, M), not read without with_residual
    y,  # (C, M), written
    eps,
    with_residual,
    relu,
):
    center, scale, shift = _rule(c, weight, bias, mean, var, eps)
    if with_residual:
        _scale_and_add_row(x[c], residual[c], y[c], center, scale, shift, relu)
    else:
        _scale_row(x[c], y[c], center, scale, shift, relu)


@jit
def _rule(
    c,
    weight,  # (C,)
    bias,  # (C,)
    mean,  # (2, C) in training, else (1, C)
    var,  # (C,)
    eps,
):
    """(center, scale, shift) of y = (x - center) * scale + shift, in the data's type"""
    scale = weight[c] / math.sqrt(var[c] + eps)
    shift = np.float64(bias[c])
    if len(mean) > 1:
        shift -= mean[1, c] * scale
    return mean[0, c], weight.dtype.type(scale), weight.dtype.type(shift)


@jit
def _train_row(
    c,
    x,  # (C, M)
    weight,  # (C,)
    bias,  # (C,)
    residual,  # (C, M), not read without with_residual
    y,  # (C, M), written
    mean,  # (2, C), written
    var,  # (C,), written
    running_mean,  # (C,), in and out, if tracked
    running_var,  # (C,), in and out, if tracked
    tracked,
    momentum,
    eps,
    with_residual,
    relu,
):
    count = x.shape[1]
    center, variance = _mean_and_variance(x[c])
    mean[0, c] = center
    mean[1, c] = center - np.float64(mean[0, c])
    var[c] = variance
    if tracked:
        running_mean[c] = (1.0 - momentum) * running_mean[c] + momentum * center
        running_var[c] = (1.0 - momentum) * running_var[c] + momentum * variance * count / max(count - 1, 1)
    _write_row(c, x, weight, bias, mean, var, residual, y, eps, with_residual, relu)


@jit
def _row_backward(
    c,
    dy,  # (C, M)
    x,  # (C, M)
    y,  # (C, M), read only if masked
    weight,  # (C,)
    bias,  # (C,)
    mean,  # (2, C) in training, else (1, C)
    var,  # (C,)
    g,  # (C, M), dx or dresidual, written if masked
    dx,  # (C, M), written
    dweight,  # (C,), written
    dbias,  # (C,), written
    eps,
    relu,
    masked,  # whether y tells where the ReLU passed
    training,
):
    count = x.shape[1]
    center, scale, shift = _rule(c, weight, bias, mean, var, eps)
    inverse = 1.0 / math.sqrt(var[c] + eps)
    gradient = dy[c]
    if masked:
        _mask(dy[c], y[c], g[c])
        gradient = g[c]
        relu = False
    total, moment = _gradient_sums(gradient, x[c], center, scale, shift, relu)
    rest = np.float64(mean[1, c]) if training else 0.0  # of the mean, beyond center
    moment -= rest * total
    dbias[c] = total
    dweight[c] = moment * inverse
    slope = offset = 0.0
    if training:
        slope = -(weight[c] * inverse) * inverse * inverse * moment / count
        offset = -(weight[c] * inverse) * total / count - slope * rest
    number = dx.dtype.type
    _input_gradient(gradient, x[c], dx[c], center, scale, shift, number(slope), number(offset), relu)


@parallel_jit
def _forward_training(
    x,
    weight,
    bias,
    residual,
    y,
    mean,
    var,
    running_mean,
    running_var,
    tracked,
    momentum,
    eps,
    with_residual,
    relu,
):
    statistics = (mean, var, running_mean, running_var, tracked, momentum)
    for c in prange(x.shape[0]):
        _train_row(np.int64(c), x, weight, bias, residual, y, *statistics, eps, with_residual, relu)


@parallel_jit
def _forward_inference(x, weight, bias, mean, var, residual, y, eps, with_residual, relu):
    for c in prange(x.shape[0]):
        _write_row(np.int64(c), x, weight, bias, mean, var, residual, y, eps, with_residual, relu)


@parallel_jit
def _backward(dy, x, y, weight, bias, mean, var, g, dx, dweight, dbias, eps, relu, masked, training):
    known = (dy, x, y, weight, bias, mean, var)
    written = (g, dx, dweight, dbias)
    rule = (eps, relu, masked, training)
    for c in prange(x.shape[0]):
        _row_backward(np.int64(c), *known, *written, *rule)


def forward_training(
    x,  # (C, M)
    weight,  # (C,)
    bias,  # (C,)
    residual,  # (C, M) or None: absent
    y,  # (C, M), written
    mean,  # (2, C), written: rounded, and the rest
    var,  # (C,), written: biased
    running_mean,  # (C,), in and out, or None: absent
    running_var,  # (C,), in and out, or None: absent
    batches,  # one int64, counted up, or None: not counted
    momentum,  # float, or None: running statistics become averages over `batches`
    eps,
    relu,  # bool
):
    tracked, with_residual = running_mean is not None, residual is not None
    if batches is not None:
        batches += 1
    if tracked and momentum is None:
        momentum = 1.0 / int(batches.item())
    # One type for each argument, present or absent: Numba compiles once.
    running = (running_mean, running_var) if tracked else (var, var)
    rule = (tracked, float(momentum) if tracked else 0.0)
    rest = (float(eps), with_residual, bool(relu))
    known = (x, weight, bias, residual if with_residual else x)
    _forward_training(*known, y, mean, var, *running, *rule, *rest, parallel=x.size >= PARALLEL_WORK)


def forward_inference(
    x,  # (C, M)
    weight,  # (C,)
    bias,  # (C,)
    mean,  # (C,)
    var,  # (C,)
    residual,  # (C, M) or None: absent
    y,  # (C, M), written
    eps,
    relu,  # bool
):
    with_residual = residual is not None
    rest = (float(eps), with_residual, bool(relu))
    known = (x, weight, bias, mean[None], var, residual if with_residual else x)
    _forward_inference(*known, y, *rest, parallel=x.size >= PARALLEL_WORK)


def backward_training(
    dy,  # (C, M)
    x,  # (C, M)
    y,  # (C, M) of a forward with residual and relu, else None
    weight,  # (C,)
    bias,  # (C,)
    mean,  # (2, C) of the batch, from forward_training
    var,  # (C,) of the batch, from forward_training
    dx,  # (C, M), written
    dresidual,  # (C, M), written where y is given, or None: not wanted
    dweight,  # (C,), written
    dbias,  # (C,), written
    eps,
    relu,  # bool
):
    _launch_backward(dy, x, y, weight, bias, mean, var, dx, dresidual, dweight, dbias, eps, relu, True)


def backward_inference(
    dy,  # (C, M)
    x,  # (C, M)
    y,  # (C, M) of a forward with residual and relu, else None
    weight,  # (C,)
    bias,  # (C,)
    mean,  # (C,)
    var,  # (C,)
    dx,  # (C, M), written
    dresidual,  # (C, M), written where y is given, or None: not wanted
    dweight,  # (C,), written
    dbias,  # (C,), written
    eps,
    relu,  # bool
):
    _launch_backward(dy, x, y, weight, bias, mean[None], var, dx, dresidual, dweight, dbias, eps, relu, False)


def _launch_backward(dy, x, y, weight, bias, mean, var, dx, dresidual, dweight, dbias, eps, relu, training):
    masked = relu and y is not None
    known = (dy, x, y if masked else x, weight, bias, mean, var)
    written = (dx if dresidual is None else dresidual, dx, dweight, dbias)
    _backward(*known, *written, float(eps), bool(relu), masked, training, parallel=x.size >= PARALLEL_WORK)
