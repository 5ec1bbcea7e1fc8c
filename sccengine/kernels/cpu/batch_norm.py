"""Batch norm over rows of M = H*W*N numbers, with a residual and ReLU folded in where asked for.

    y = (x - mean) * inv * weight + bias + residual,   inv = 1 / sqrt(var + eps)       var: biased, over the row
    training:   dx = weight * inv * (g - mean(g) - (x - mean) * inv**2 * mean(g * (x - mean)))
    inference:  dx = weight * inv * g       dweight = inv * sum(g * (x - mean))       dbias = sum(g)
    g = dy, with ReLU g = dy where y > 0. Without a residual that is recomputed from x. With one, y is read, which the
    next layer keeps anyway, and g is written: it is the residual's gradient, and takes dy's place in the second pass
    running += momentum * (batch's - running), with the unbiased variance; batches += 1; momentum None: 1 / batches

A row is read from memory once and stays in cache for the further passes over it. Arithmetic is in float64 whatever the
data, so |mean| >> std costs no digits: the mean first, then the squares around it. The mean is handed on in two
numbers of the data's type, rounded and what rounding took off it, so that backward subtracts what forward subtracted.
"""

import math

import numpy as np
from numba import prange

from sccengine.kernels.cpu.compile import PARALLEL_WORK, jit, parallel_jit
from sccengine.kernels.cpu.rows import row_sum


@jit
def _sum_squares_around(
    x,  # (M,)
    center,
):
    total = 0.0
    for m in range(x.size):
        distance = x[m] - center
        total += distance * distance
    return total


@jit
def _scale_row(
    x,  # (M,)
    y,  # (M,)
    scale,
    shift,
    relu,
):
    if relu:
        for m in range(x.size):
            value = x[m] * scale + shift
            y[m] = 0.0 if value <= 0.0 else value
    else:
        for m in range(x.size):
            y[m] = x[m] * scale + shift


@jit
def _scale_and_add_row(
    x,  # (M,)
    residual,  # (M,)
    y,  # (M,)
    scale,
    shift,
    relu,
):
    if relu:
        for m in range(x.size):
            value = x[m] * scale + shift + residual[m]
            y[m] = 0.0 if value <= 0.0 else value
    else:
        for m in range(x.size):
            y[m] = x[m] * scale + shift + residual[m]


@jit
def _gradient_sums(
    dy,  # (M,)
    x,  # (M,)
    mean,
    scale,
    shift,
    relu,
):
    """sum(g), sum(g * (x - mean))"""
    total = 0.0
    moment = 0.0
    if relu:
        for m in range(x.size):
            g = 0.0 if x[m] * scale + shift <= 0.0 else np.float64(dy[m])
            total += g
            moment += g * (x[m] - mean)
    else:
        for m in range(x.size):
            g = np.float64(dy[m])
            total += g
            moment += g * (x[m] - mean)
    return total, moment


@jit
def _input_gradient(
    dy,  # (M,)
    x,  # (M,)
    dx,  # (M,)
    scale,
    shift,
    slope,
    offset,
    relu,
):
    """dx = scale * g + slope * x + offset"""
    if relu:
        for m in range(x.size):
            g = 0.0 if x[m] * scale + shift <= 0.0 else np.float64(dy[m])
            dx[m] = scale * g + (slope * x[m] + offset)
    else:
        for m in range(x.size):
            dx[m] = scale * dy[m] + (slope * x[m] + offset)


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
def _write_row(c, x, residual, y, scale, shift, with_residual, relu):
    if with_residual:
        _scale_and_add_row(x[c], residual[c], y[c], scale, shift, relu)
    else:
        _scale_row(x[c], y[c], scale, shift, relu)


@jit
def _train_row(
    c,
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
    count = x.shape[1]
    center = row_sum(x[c]) / count
    variance = _sum_squares_around(x[c], center) / count
    mean[0, c] = center
    mean[1, c] = center - np.float64(mean[0, c])
    var[c] = variance
    if tracked:
        running_mean[c] = (1.0 - momentum) * running_mean[c] + momentum * center
        running_var[c] = (1.0 - momentum) * running_var[c] + momentum * variance * count / max(count - 1, 1)
    scale = weight[c] / math.sqrt(var[c] + eps)
    _write_row(c, x, residual, y, scale, bias[c] - center * scale, with_residual, relu)


@jit
def _infer_row(c, x, weight, bias, mean, var, residual, y, eps, with_residual, relu):
    scale = weight[c] / math.sqrt(var[c] + eps)
    _write_row(c, x, residual, y, scale, bias[c] - mean[c] * scale, with_residual, relu)


@jit
def _row_backward(c, dy, x, y, weight, bias, mean, var, g, dx, dweight, dbias, eps, relu, masked, training):
    """mean (2, C) in training, else (1, C). masked: y tells where the ReLU passed, g is dx or dresidual."""
    count = x.shape[1]
    center = np.float64(mean[0, c])
    if training:
        center += mean[1, c]
    inverse = 1.0 / math.sqrt(var[c] + eps)
    scale = weight[c] * inverse
    shift = bias[c] - center * scale
    gradient = dy[c]
    if masked:
        _mask(dy[c], y[c], g[c])
        gradient = g[c]
        relu = False
    total, moment = _gradient_sums(gradient, x[c], center, scale, shift, relu)
    dbias[c] = total
    dweight[c] = moment * inverse
    slope = offset = 0.0
    if training:
        slope = -scale * inverse * inverse * moment / count
        offset = -scale * total / count - slope * center
    _input_gradient(gradient, x[c], dx[c], scale, shift, slope, offset, relu)


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
    parallel,
):
    statistics = (mean, var, running_mean, running_var, tracked, momentum)
    if parallel:
        for c in prange(x.shape[0]):
            _train_row(np.int64(c), x, weight, bias, residual, y, *statistics, eps, with_residual, relu)
    else:
        for c in range(x.shape[0]):
            _train_row(c, x, weight, bias, residual, y, *statistics, eps, with_residual, relu)


@parallel_jit
def _forward_inference(x, weight, bias, mean, var, residual, y, eps, with_residual, relu, parallel):
    if parallel:
        for c in prange(x.shape[0]):
            _infer_row(np.int64(c), x, weight, bias, mean, var, residual, y, eps, with_residual, relu)
    else:
        for c in range(x.shape[0]):
            _infer_row(c, x, weight, bias, mean, var, residual, y, eps, with_residual, relu)


@parallel_jit
def _backward(dy, x, y, weight, bias, mean, var, g, dx, dweight, dbias, eps, relu, masked, training, parallel):
    known = (dy, x, y, weight, bias, mean, var)
    written = (g, dx, dweight, dbias)
    rule = (eps, relu, masked, training)
    if parallel:
        for c in prange(x.shape[0]):
            _row_backward(np.int64(c), *known, *written, *rule)
    else:
        for c in range(x.shape[0]):
            _row_backward(c, *known, *written, *rule)


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
    rest = (float(eps), with_residual, bool(relu), x.size >= PARALLEL_WORK)
    _forward_training(x, weight, bias, residual if with_residual else x, y, mean, var, *running, *rule, *rest)


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
    rest = (float(eps), with_residual, bool(relu), x.size >= PARALLEL_WORK)
    _forward_inference(x, weight, bias, mean, var, residual if with_residual else x, y, *rest)


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
    _backward(*known, *written, float(eps), bool(relu), masked, training, x.size >= PARALLEL_WORK)
