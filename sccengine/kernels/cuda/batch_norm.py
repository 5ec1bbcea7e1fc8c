"""Batch normalisation of every channel, with or without the ReLU that usually follows it.

    mean[c] = sum_m x[c,m] / M        var[c] = sum_m (x[c,m] - mean[c])**2 / M     (biased)
    xhat[c,m] = (x[c,m] - mean[c]) / sqrt(var[c] + eps)
    y[c,m] = xhat[c,m] * weight[c] + bias[c], then max(y, 0) if relu

    g = dy, or with relu: dy where y > 0, else 0 (y is recomputed from x, so it need not be kept)
    dbias[c] = sum_m g[c,m]           dweight[c] = sum_m g[c,m] * xhat[c,m]
    dx = weight / sqrt(var + eps) * (g - dbias / M - xhat * dweight / M)    training: mean and var depend on x
    dx = weight / sqrt(var + eps) * g                                       inference: they are constants

x, y (C, M) with M = H*W*N: in batch-last memory a channel is one contiguous row. weight, bias, mean, var (C,).

v1: sums take one block per channel (reduction.py), the rest one thread per element. The statistics read x twice, first
for the mean and then for the deviations from it, and take the rounding error of that mean out of both:
with d = x - rough mean,  mean = rough mean + sum(d) / M  and  var = sum(d**2) / M - (sum(d) / M)**2.
So float32 stays accurate where the mean is a million times the deviation.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from sccengine.kernels.cuda.indexing import quotient, thread_index
from sccengine.kernels.cuda.launch import Build, blocks, elements
from sccengine.kernels.cuda.reduction import THREADS, block_sum


@cuda.jit
def statistics_v1(
    x,  # (C, M): one block for each row
    mean,  # (C,), out
    var,  # (C,), out
    length,  # M
):
    partial = cuda.shared.array(THREADS, x.dtype)
    channel = cuda.blockIdx.x
    first = np.int32(channel * length)
    count = x.dtype.type(length)
    total = x.dtype.type(0)
    for m in range(cuda.threadIdx.x, length, THREADS):
        total += x[np.uint32(first + m)]
    rough_mean = block_sum(partial, total) / count
    total = x.dtype.type(0)
    squares = x.dtype.type(0)
    for m in range(cuda.threadIdx.x, length, THREADS):
        deviation = x[np.uint32(first + m)] - rough_mean
        total += deviation
        squares += deviation * deviation
    shift = block_sum(partial, total) / count
    squares = block_sum(partial, squares) / count
    if cuda.threadIdx.x == 0:
        mean[channel] = rough_mean + shift
        var[channel] = max(squares - shift * shift, x.dtype.type(0))


@cuda.jit
def forward_v1(
    x,  # (C, M)
    weight,  # (C,)
    bias,  # (C,)
    mean,  # (C,)
    var,  # (C,)
    y,  # (C, M)
    length,  # M
    relu,
    eps,
):
    i = thread_index()
    if i >= y.size:
        return
    channel = np.uint32(quotient(i, length))
    inverse = x.dtype.type(1) / math.sqrt(var[channel] + eps)
    value = (x[i] - mean[channel]) * inverse * weight[channel] + bias[channel]
    y[i] = y.dtype.type(0) if relu and value <= 0 else value


@cuda.jit
def backward_sums_v1(
    dy,  # (C, M): one block for each row
    x,  # (C, M)
    weight,  # (C,)
    bias,  # (C,)
    mean,  # (C,)
    var,  # (C,)
    dweight,  # (C,), out
    dbias,  # (C,), out
    length,  # M
    relu,
    eps,
):
    partial = cuda.shared.array(THREADS, x.dtype)
    channel = cuda.blockIdx.x
    first = np.int32(channel * length)
    centre = mean[channel]
    inverse = x.dtype.type(1) / math.sqrt(var[channel] + eps)
    scale = weight[channel]
    shift = bias[channel]
    dscale = x.dtype.type(0)
    dshift = x.dtype.type(0)
    for m in range(cuda.threadIdx.x, length, THREADS):
        i = np.uint32(first + m)
        normalised = (x[i] - centre) * inverse
        if not relu or normalised * scale + shift > 0:
            dscale += dy[i] * normalised
            dshift += dy[i]
    dscale = block_sum(partial, dscale)
    dshift = block_sum(partial, dshift)
    if cuda.threadIdx.x == 0:
        dweight[channel] = dscale
        dbias[channel] = dshift


@cuda.jit
def backward_input_v1(
    dy,  # (C, M)
    x,  # (C, M)
    weight,  # (C,)
    bias,  # (C,)
    mean,  # (C,)
    var,  # (C,)
    dweight,  # (C,)
    dbias,  # (C,)
    dx,  # (C, M)
    length,  # M
    training,  # whether mean and var are those of x
    relu,
    eps,
):
    i = thread_index()
    if i >= dx.size:
        return
    channel = np.uint32(quotient(i, length))
    inverse = x.dtype.type(1) / math.sqrt(var[channel] + eps)
    normalised = (x[i] - mean[channel]) * inverse
    masked = relu and not normalised * weight[channel] + bias[channel] > 0
    gradient = dx.dtype.type(0) if masked else dy[i]
    if training:
        gradient -= (dbias[channel] + normalised * dweight[channel]) / x.dtype.type(length)
    dx[i] = gradient * weight[channel] * inverse


def forward_training(x, weight, bias, y, mean, var, eps, relu):
    """y (C, M), and the batch's mean (C,) and biased variance var (C,), from x (C, M)."""
    channels, length = x.shape
    blocks(statistics_v1, channels, THREADS, x, mean, var, length)
    forward_inference(x, weight, bias, mean, var, y, eps, relu)


def forward_inference(x, weight, bias, mean, var, y, eps, relu):
    """y (C, M) from x (C, M) and given mean (C,) and var (C,)."""
    elements(forward_v1, y.size, x, weight, bias, mean, var, y, x.shape[1], relu, float(eps))


def backward_training(dy, x, weight, bias, mean, var, dx, dweight, dbias, eps, relu):
    """dx (C, M), dweight (C,) and dbias (C,), with the mean and var that forward_training wrote."""
    _backward(dy, x, weight, bias, mean, var, dx, dweight, dbias, eps, relu, training=True)


def backward_inference(dy, x, weight, bias, mean, var, dx, dweight, dbias, eps, relu):
    """dx (C, M), dweight (C,) and dbias (C,), where mean and var are constants."""
    _backward(dy, x, weight, bias, mean, var, dx, dweight, dbias, eps, relu, training=False)


def _backward(dy, x, weight, bias, mean, var, dx, dweight, dbias, eps, relu, training):
    channels, length = x.shape
    known = (dy, x, weight, bias, mean, var)
    blocks(backward_sums_v1, channels, THREADS, *known, dweight, dbias, length, relu, float(eps))
    elements(backward_input_v1, dx.size, *known, dweight, dbias, dx, length, training, relu, float(eps))


COMPILE = [
    Build(statistics_v1, "FFFi"),
    Build(forward_v1, "FFFFFFiif"),
    Build(backward_sums_v1, "FFFFFFFFiif"),
    Build(backward_input_v1, "FFFFFFFFFiiif"),
]
