"""Depthwise k x k convolution (cross-correlation, zero padding): filter f of O = m * C reads channel f // m.

    y[f, i, j, n] = bias[f] + sum_(a, b) weight[f, a, b] * x[f // m, i * sh + a - ph, j * sw + b - pw, n]

Forward and input gradient differ only in their tables of runs (depthwise_runs.py). The weight gradient is taken
with the input's: both read the same neighbourhoods of dy, and reading costs more than the arithmetic.

A batch that fills no vector would leave borders and strides to scalar code: ``depthwise_packed`` takes it over.

Threads take whole filters (or channels, for dx); a filter's sums are never divided.
"""

import numpy as np
from numba import prange

from sccengine.kernels.cpu import depthwise_packed
from sccengine.kernels.cpu.compile import PARALLEL_WORK, jit, parallel_jit
from sccengine.kernels.cpu.depthwise_runs import forward_runs, gather_gradients, gather_plane, input_gradient_runs
from sccengine.kernels.cpu.rows import row_sum, sum_rows
from sccengine.kernels.cpu.simd import VECTOR_BYTES, is_short_batch, lowest
from sccengine.kernels.cpu.taps import sum_lanes


@parallel_jit
def _forward(x, weight, bias, y, rows, columns, floor):
    multiplier = y.shape[0] // x.shape[0]
    for index in prange(y.shape[0]):
        f = np.int64(index)
        gather_plane(x, f // multiplier, weight, f, bias[f], False, y, f, rows, columns, floor)


@jit
def _channel_gradient(c, dy, weight, dx, rows, columns):
    """dx[c], over the filters that read channel c"""
    multiplier = dy.shape[0] // dx.shape[0]
    zero = dx.dtype.type(0)
    floor = dx.dtype.type(-np.inf)
    for f in range(c * multiplier, (c + 1) * multiplier):
        gather_plane(dy, f, weight, f, zero, f > c * multiplier, dx, c, rows, columns, floor)


@parallel_jit
def _backward_input(dy, weight, dx, rows, columns):
    for c in prange(dx.shape[0]):
        _channel_gradient(np.int64(c), dy, weight, dx, rows, columns)


@jit
def _channel_backward(c, dy, x, weight, dx, dx_plane, dweight, dbias, rows, columns):
    """dx[dx_plane], as the gradient of channel c, and dweight and dbias of the filters that read it"""
    kh, kw = weight.shape[1:]
    multiplier = dy.shape[0] // x.shape[0]
    lanes = VECTOR_BYTES // x.itemsize
    for f in range(c * multiplier, (c + 1) * multiplier):
        sums = np.zeros(kh * kw * lanes, x.dtype)
        gather_gradients(dy, x, c, weight, f, f > c * multiplier, dx, dx_plane, rows, columns, sums)
        sum_lanes(sums, lanes, dweight, f)
        if dbias.size:
            dbias[f] = row_sum(dy[f].reshape(dy[f].size))


@parallel_jit
def _backward(dy, x, weight, dx, dweight, dbias, rows, columns):
    for index in prange(x.shape[0]):
        c = np.int64(index)
        if dx.size:
            _channel_backward(c, dy, x, weight, dx, c, dweight, dbias, rows, columns)
        else:
            unwanted = np.empty((1, *x.shape[1:]), x.dtype)
            _channel_backward(c, dy, x, weight, unwanted, np.int64(0), dweight, dbias, rows, columns)


def _is_large(y, kernel):
    return y.size * kernel[0] * kernel[1] >= 4 * PARALLEL_WORK


def forward(
    x,  # (C, H, W, N)
    weight,  # (O, kh, kw)
    bias,  # (O,) or None
    y,  # (O, HO, WO, N), written
    stride,  # (h, w)
    padding,  # (h, w)
    relu=False,  # whether negative results become 0
):
    bias = np.zeros(y.shape[0], y.dtype) if bias is None else bias
    floor = lowest(y.dtype, relu)
    kernel = weight.shape[1:]
    if is_short_batch(x):
        depthwise_packed.forward(x, weight, bias, y, stride, padding, floor)
    else:
        runs = forward_runs(x, y, kernel, stride, padding)
        _forward(x, weight, bias, y, *runs, floor, parallel=_is_large(y, kernel))


def backward_input(
    dy,  # (O, HO, WO, N)
    weight,  # (O, kh, kw)
    dx,  # (C, H, W, N), written
    stride,  # (h, w)
    padding,  # (h, w)
):
    kernel = weight.shape[1:]
    if is_short_batch(dy):
        depthwise_packed.backward(dy, dx[:0], weight, dx, weight[:0], stride, padding)
    else:
        runs = input_gradient_runs(dx, dy, kernel, stride, padding)
        _backward_input(dy, weight, dx, *runs, parallel=_is_large(dy, kernel))


def backward_weight(
    dy,  # (O, HO, WO, N)
    x,  # (C, H, W, N)
    dweight,  # (O, kh, kw), written
    stride,  # (h, w)
    padding,  # (h, w)
):
    # dx is made, of weights of zero, and dropped: what takes the time is reading dy.
    backward(dy, x, np.zeros_like(dweight), None, dweight, None, stride, padding)


def backward(
    dy,  # (O, HO, WO, N)
    x,  # (C, H, W, N)
    weight,  # (O, kh, kw)
    dx,  # (C, H, W, N), written, or None: not wanted
    dweight,  # (O, kh, kw), written
    dbias,  # (O,), written, or None: not wanted
    stride,  # (h, w)
    padding,  # (h, w)
):
    """All gradients at once, from one reading of dy, of a short batch two."""
    kernel = weight.shape[1:]
    dx = np.empty((0, *x.shape[1:]), x.dtype) if dx is None else dx
    if is_short_batch(x):
        depthwise_packed.backward(dy, x, weight, dx, dweight, stride, padding)
        if dbias is not None:
            sum_rows(dy.reshape(dy.shape[0], -1), dbias)
    else:
        dbias = np.empty(0, dy.dtype) if dbias is None else dbias
        runs = input_gradient_runs(x, dy, kernel, stride, padding)
        _backward(dy, x, weight, dx, dweight, dbias, *runs, parallel=_is_large(dy, kernel))
