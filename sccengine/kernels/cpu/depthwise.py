"""Depthwise k x k convolution (cross-correlation, zero padding): filter f of O = m * C reads channel f // m.

    y[f, i, j, n] = bias[f] + sum_(a, b) weight[f, a, b] * x[f // m, i * sh + a - ph, j * sw + b - pw, n]

The batch lies innermost, so a pixel is a run of N numbers and, at stride 1, neighbouring pixels with the same taps make
one longer run. Which taps an output position has and where they read is worked out once per geometry and axis, in a
table of runs; forward and input gradient differ in their tables only, the weight gradient uses the forward ones.

A batch that fills no vector would leave borders and strides to scalar code: ``depthwise_packed`` takes it over.

Threads take whole filters (or channels, for dx); a filter's sums are never divided.
"""

import functools

import numpy as np
from numba import prange

from sccengine.kernels.cpu import depthwise_packed
from sccengine.kernels.cpu.compile import PARALLEL_WORK, jit, parallel_jit
from sccengine.kernels.cpu.simd import VECTOR_BYTES
from sccengine.kernels.cpu.taps import sum_lanes, tap_products, weighted_taps

#: Bytes of a pixel's batch below which planes are packed.
_SHORT_BATCH = 64

#: Columns of a table of runs.
_BEGIN, _LENGTH, _COUNT, _SOURCE, _SOURCE_STEP, _TAP, _TAP_STEP = range(7)


@functools.lru_cache(maxsize=1024)
def _forward_runs(size, outputs, kernel, stride, padding, merge):
    """Runs of output positions along one axis; ``merge`` joins neighbours with the same taps."""
    runs = []
    for position in range(outputs):
        start = position * stride - padding
        tap = max(0, -start)
        count = max(0, min(kernel, size - start) - tap)
        runs.append([position, 1, count, start + tap if count else 0, 1, tap if count else 0, 1])
    return _table(runs, merge and stride == 1)


@functools.lru_cache(maxsize=1024)
def _input_gradient_runs(size, outputs, kernel, stride, padding, merge):
    """The same for positions of the input, each with the taps through which an output read it."""
    runs = []
    for position in range(size):
        padded = position + padding
        taps = [t for t in range(kernel) if (padded - t) % stride == 0 and 0 <= (padded - t) // stride < outputs]
        first = taps[0] if taps else 0
        runs.append([position, 1, len(taps), (padded - first) // stride if taps else 0, -1, first, stride])
    return _table(runs, merge and stride == 1)


def _table(runs, merge):
    merged = []
    for run in runs:
        if merge and merged and (run[_COUNT], run[_TAP]) == (merged[-1][_COUNT], merged[-1][_TAP]):
            merged[-1][_LENGTH] += 1
        else:
            merged.append(list(run))
    return np.array(merged, dtype=np.int64).reshape(-1, 7)


@jit
def _gather_plane(source, source_plane, weight, f, init, accumulate, target, target_plane, rows, columns):
    """target[target_plane] = init, or itself, + the taps of filter f over source[source_plane]."""
    kh, kw = weight.shape[1:]
    _, height, width, batch = source.shape
    _, target_height, target_width, _ = target.shape
    row_size = width * batch
    for i in range(target_height):
        for r in range(columns.shape[0]):
            weighted_taps(
                source,
                (source_plane * height + rows[i, _SOURCE]) * row_size + columns[r, _SOURCE] * batch,
                rows[i, _COUNT],
                rows[i, _SOURCE_STEP] * row_size,
                columns[r, _COUNT],
                columns[r, _SOURCE_STEP] * batch,
                weight,
                (f * kh + rows[i, _TAP]) * kw + columns[r, _TAP],
                rows[i, _TAP_STEP] * kw,
                columns[r, _TAP_STEP],
                init,
                accumulate,
                target,
                ((target_plane * target_height + i) * target_width + columns[r, _BEGIN]) * batch,
                columns[r, _LENGTH] * batch,
            )


@jit
def _filter_products(f, dy, x, dweight, rows, columns):
    """dweight[f]"""
    kh, kw = dweight.shape[1:]
    _, height, width, batch = x.shape
    filters, outputs, output_width, _ = dy.shape
    lanes = VECTOR_BYTES // x.itemsize
    sums = np.zeros(kh * kw * lanes, x.dtype)
    plane = f // (filters // x.shape[0])
    for i in range(outputs):
        for r in range(columns.shape[0]):
            tap_products(
                x,
                ((plane * height + rows[i, _SOURCE]) * width + columns[r, _SOURCE]) * batch,
                rows[i, _COUNT],
                width * batch,
                columns[r, _COUNT],
                batch,
                dy,
                ((f * outputs + i) * output_width + columns[r, _BEGIN]) * batch,
                columns[r, _LENGTH] * batch,
                sums,
                rows[i, _TAP] * kw + columns[r, _TAP],
                kw,
                1,
            )
    sum_lanes(sums, lanes, dweight, f)


@parallel_jit
def _forward(x, weight, bias, y, rows, columns, parallel):
    multiplier = y.shape[0] // x.shape[0]
    if parallel:
        for index in prange(y.shape[0]):
            f = np.int64(index)
            _gather_plane(x, f // multiplier, weight, f, bias[f], False, y, f, rows, columns)
    else:
        for f in range(y.shape[0]):
            _gather_plane(x, f // multiplier, weight, f, bias[f], False, y, f, rows, columns)


@jit
def _channel_gradient(c, dy, weight, dx, rows, columns):
    """dx[c], over the filters that read channel c"""
    multiplier = dy.shape[0] // dx.shape[0]
    zero = dx.dtype.type(0)
    for f in range(c * multiplier, (c + 1) * multiplier):
        _gather_plane(dy, f, weight, f, zero, f > c * multiplier, dx, c, rows, columns)


@parallel_jit
def _backward_input(dy, weight, dx, rows, columns, parallel):
    if parallel:
        for c in prange(dx.shape[0]):
            _channel_gradient(np.int64(c), dy, weight, dx, rows, columns)
    else:
        for c in range(dx.shape[0]):
            _channel_gradient(c, dy, weight, dx, rows, columns)


@parallel_jit
def _backward_weight(dy, x, dweight, rows, columns, parallel):
    if parallel:
        for f in prange(dy.shape[0]):
            _filter_products(np.int64(f), dy, x, dweight, rows, columns)
    else:
        for f in range(dy.shape[0]):
            _filter_products(f, dy, x, dweight, rows, columns)


def _runs(tables, x, y, kernel, stride, padding):
    rows = tables(x.shape[1], y.shape[1], kernel[0], stride[0], padding[0], False)
    return rows, tables(x.shape[2], y.shape[2], kernel[1], stride[1], padding[1], True)


def _is_large(y, kernel):
    return y.size * kernel[0] * kernel[1] >= 4 * PARALLEL_WORK


def _is_short(batch, itemsize):
    return batch * itemsize < _SHORT_BATCH


def forward(
    x,  # (C, H, W, N)
    weight,  # (O, kh, kw)
    bias,  # (O,) or None
    y,  # (O, HO, WO, N), written
    stride,  # (h, w)
    padding,  # (h, w)
):
    bias = np.zeros(y.shape[0], y.dtype) if bias is None else bias
    kernel = weight.shape[1:]
    if _is_short(x.shape[3], x.itemsize):
        depthwise_packed.forward(x, weight, bias, y, stride, padding, _is_large(y, kernel))
    else:
        _forward(x, weight, bias, y, *_runs(_forward_runs, x, y, kernel, stride, padding), _is_large(y, kernel))


def backward_input(
    dy,  # (O, HO, WO, N)
    weight,  # (O, kh, kw)
    dx,  # (C, H, W, N), written
    stride,  # (h, w)
    padding,  # (h, w)
):
    kernel = weight.shape[1:]
    if _is_short(dy.shape[3], dy.itemsize):
        depthwise_packed.backward_input(dy, weight, dx, stride, padding, _is_large(dy, kernel))
    else:
        runs = _runs(_input_gradient_runs, dx, dy, kernel, stride, padding)
        _backward_input(dy, weight, dx, *runs, _is_large(dy, kernel))


def backward_weight(
    dy,  # (O, HO, WO, N)
    x,  # (C, H, W, N)
    dweight,  # (O, kh, kw), written
    stride,  # (h, w)
    padding,  # (h, w)
):
    kernel = dweight.shape[1:]
    if _is_short(x.shape[3], x.itemsize):
        depthwise_packed.backward_weight(dy, x, dweight, stride, padding, _is_large(dy, kernel))
    else:
        runs = _runs(_forward_runs, x, dy, kernel, stride, padding)
        _backward_weight(dy, x, dweight, *runs, _is_large(dy, kernel))
