"""Batch norm over rows of M = H*W*N numbers, with ReLU folded in where asked for.

    y = (x - mean) * inv * weight + bias,   inv = 1 / sqrt(var + eps)       var: biased, over the row
    training:   dx = weight * inv * (g - mean(g) - (x - mean) * inv**2 * mean(g * (x - mean)))
    inference:  dx = weight * inv * g       dweight = inv * sum(g * (x - mean))       dbias = sum(g)
    g = dy, with ReLU g = dy where y > 0 (y recomputed from x: it need not be kept)

A row is read from memory once and stays in cache for the further passes over it. Arithmetic is in float64 whatever the
data, so |mean| >> std costs no digits: the mean first, then the squares around it. The saved mean is rounded to the
data's type; backward_training adds the rounding error back before use.
"""

import math

import numpy as np
from numba import prange

from sccengine.kernels.cpu.compile import PARALLEL_WORK, jit, parallel_jit
from sccengine.kernels.cpu.rows import row_sum


@jit
def _sum_around(
    x,  # (M,)
    center,
):
    total = 0.0
    for m in range(x.size):
        total += x[m] - center
    return total


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
def _train_row(c, x, weight, bias, y, mean, var, eps, relu):
    center = row_sum(x[c]) / x.shape[1]
    mean[c] = center
    var[c] = _sum_squares_around(x[c], center) / x.shape[1]
    scale = weight[c] / math.sqrt(var[c] + eps)
    _scale_row(x[c], y[c], scale, bias[c] - center * scale, relu)


@jit
def _infer_row(c, x, weight, bias, mean, var, y, eps, relu):
    scale = weight[c] / math.sqrt(var[c] + eps)
    _scale_row(x[c], y[c], scale, bias[c] - mean[c] * scale, relu)


@jit
def _train_row_backward(c, dy, x, weight, bias, mean, var, dx, dweight, dbias, eps, relu):
    count = x.shape[1]
    center = mean[c] + _sum_around(x[c], np.float64(mean[c])) / count
    inverse = 1.0 / math.sqrt(var[c] + eps)
    scale = weight[c] * inverse
    shift = bias[c] - center * scale
    total, moment = _gradient_sums(dy[c], x[c], center, scale, shift, relu)
    dbias[c] = total
    dweight[c] = moment * inverse
    slope = -scale * inverse * inverse * moment / count
    _input_gradient(dy[c], x[c], dx[c], scale, shift, slope, -scale * total / count - slope * center, relu)


@jit
def _infer_row_backward(c, dy, x, weight, bias, mean, var, dx, dweight, dbias, eps, relu):
    inverse = 1.0 / math.sqrt(var[c] + eps)
    scale = weight[c] * inverse
    shift = bias[c] - mean[c] * scale
    total, moment = _gradient_sums(dy[c], x[c], np.float64(mean[c]), scale, shift, relu)
    dbias[c] = total
    dweight[c] = moment * inverse
    _input_gradient(dy[c], x[c], dx[c], scale, shift, 0.0, 0.0, relu)


@parallel_jit
def _forward_training(x, weight, bias, y, mean, var, eps, relu, parallel):
    if parallel:
        for c in prange(x.shape[0]):
            _train_row(np.int64(c), x, weight, bias, y, mean, var, eps, relu)
    else:
        for c in range(x.shape[0]):
            _train_row(c, x, weight, bias, y, mean, var, eps, relu)


@parallel_jit
def _forward_inference(x, weight, bias, mean, var, y, eps, relu, parallel):
    if parallel:
        for c in prange(x.shape[0]):
            _infer_row(np.int64(c), x, weight, bias, mean, var, y, eps, relu)
    else:
        for c in range(x.shape[0]):
            _infer_row(c, x, weight, bias, mean, var, y, eps, relu)


@parallel_jit
def _backward_training(dy, x, weight, bias, mean, var, dx, dweight, dbias, eps, relu, parallel):
    if parallel:
        for c in prange(x.shape[0]):
            _train_row_backward(np.int64(c), dy, x, weight, bias, mean, var, dx, dweight, dbias, eps, relu)
    else:
        for c in range(x.shape[0]):
            _train_row_backward(c, dy, x, weight, bias, mean, var, dx, dweight, dbias, eps, relu)


@parallel_jit
def _backward_inference(dy, x, weight, bias, mean, var, dx, dweight, dbias, eps, relu, parallel):
    if parallel:
        for c in prange(x.shape[0]):
            _infer_row_backward(np.int64(c), dy, x, weight, bias, mean, var, dx, dweight, dbias, eps, relu)
    else:
        for c in range(x.shape[0]):
            _infer_row_backward(c, dy, x, weight, bias, mean, var, dx, dweight, dbias, eps, relu)


def forward_training(
    x,  # (C, M)
    weight,  # (C,)
    bias,  # (C,)
    y,  # (C, M), written
    mean,  # (C,), written
    var,  # (C,), written: biased
    eps,
    relu,  # bool
):
    _forward_training(x, weight, bias, y, mean, var, float(eps), bool(relu), x.size >= PARALLEL_WORK)


def forward_inference(
    x,  # (C, M)
    weight,  # (C,)
    bias,  # (C,)
    mean,  # (C,)
    var,  # (C,)
    y,  # (C, M), written
    eps,
    relu,  # bool
):
    _forward_inference(x, weight, bias, mean, var, y, float(eps), bool(relu), x.size >= PARALLEL_WORK)


def backward_training(
    dy,  # (C, M)
    x,  # (C, M)
    weight,  # (C,)
    bias,  # (C,)
    mean,  # (C,) of the batch, from forward_training
    var,  # (C,) of the batch, from forward_training
    dx,  # (C, M), written
    dweight,  # (C,), written
    dbias,  # (C,), written
    eps,
    relu,  # bool
):
    parallel = x.size >= PARALLEL_WORK
    _backward_training(dy, x, weight, bias, mean, var, dx, dweight, dbias, float(eps), bool(relu), parallel)


def backward_inference(
    dy,  # (C, M)
    x,  # (C, M)
    weight,  # (C,)
    bias,  # (C,)
    mean,  # (C,)
    var,  # (C,)
    dx,  # (C, M), written
    dweight,  # (C,), written
    dbias,  # (C,), written
    eps,
    relu,  # bool
):
    parallel = x.size >= PARALLEL_WORK
    _backward_inference(dy, x, weight, bias, mean, var, dx, dweight, dbias, float(eps), bool(relu), parallel)
