"""Depthwise convolution of short batches: a channel is copied, padded, by phase of the stride, then is one long run.

Phase (a, b) of a padded plane holds its rows a, a + sh, a + 2*sh, ... and columns b, b + sw, ...: within a phase a
strided convolution reads neighbours. With a common row pitch of source and target the plane is a single run; the few
columns beyond the edge hold sums that nobody reads (for the weight gradient, zeros).
"""

import numpy as np
from numba import prange

from sccengine.kernels.cpu.compile import PARALLEL_WORK, jit, parallel_jit
from sccengine.kernels.cpu.shares import scratch, share_count, share_of
from sccengine.kernels.cpu.simd import VECTOR_BYTES
from sccengine.kernels.cpu.taps import copy_runs, gradient_taps, sum_lanes, weighted_taps


@jit
def _span(first, step, count, size):
    """The range of i in 0..count for which 0 <= first + i * step < size."""
    begin = min(count, (max(0, -first) + step - 1) // step)
    return begin, max(begin, min(count, (size - first + step - 1) // step))


@jit
def _runs(pixels, batch, step):
    """Neighbouring pixels of a row are one run, others as many runs as there are pixels."""
    if step == 1:
        return 1, pixels * batch
    return pixels, batch


@jit
def _pack(
    x,  # (planes, H, W, N)
    plane,
    top,  # row and column of the plane that come first
    left,
    sh,
    sw,
    packed,  # (rows, pitch, N), written; zero outside the plane
):
    _, height, width, batch = x.shape
    rows, pitch, _ = packed.shape
    first_row, end_row = _span(top, sh, rows, height)
    first, end = _span(left, sw, pitch, width)
    count, length = _runs(end - first, batch, sw)
    packed[:] = 0
    for i in range(first_row, end_row):
        source_at = ((plane * height + top + i * sh) * width + left + first * sw) * batch
        copy_runs(x, source_at, sw * batch, packed, (i * pitch + first) * batch, batch, count, length, False)


@jit
def _unpack(
    packed,  # (rows, pitch, N)
    columns,  # of it that count
    top,  # row and column of the plane that come first
    left,
    sh,
    sw,
    accumulate,  # add to the plane
    x,  # (planes, H, W, N), these rows and columns of the plane written
    plane,
):
    _, height, width, batch = x.shape
    rows, pitch, _ = packed.shape
    first_row, end_row = _span(top, sh, rows, height)
    first, end = _span(left, sw, columns, width)
    count, length = _runs(end - first, batch, sw)
    for i in range(first_row, end_row):
        target_at = ((plane * height + top + i * sh) * width + left + first * sw) * batch
        copy_runs(packed, (i * pitch + first) * batch, batch, x, target_at, sw * batch, count, length, accumulate)


@jit
def _filters_forward(begin, end, x, weight, bias, y, stride, padding, floor):
    """y[begin:end]"""
    kh, kw = weight.shape[1:]
    sh, sw = stride
    filters, outputs, width, batch = y.shape
    pitch = width + (kw + sw - 1) // sw - 1
    source_rows = outputs + (kh + sh - 1) // sh - 1
    source = scratch(source_rows * pitch * batch, x.dtype).reshape((source_rows, pitch, batch))
    target = scratch(outputs * pitch * batch, x.dtype).reshape((outputs, pitch, batch))
    length = ((outputs - 1) * pitch + width) * batch
    phases = min(sh, kh) * min(sw, kw)
    none = y.dtype.type(-np.inf)
    for f in range(begin, end):
        for phase in range(phases):
            a, b = phase // min(sw, kw), phase % min(sw, kw)
            _pack(x, f // (filters // x.shape[0]), a - padding[0], b - padding[1], sh, sw, source)
            reads = (0, (kh - a + sh - 1) // sh, pitch * batch, (kw - b + sw - 1) // sw, batch)
            weights = ((f * kh + a) * kw + b, sh * kw, sw)
            last = floor if phase == phases - 1 else none
            weighted_taps(source, *reads, weight, *weights, bias[f], phase > 0, target, 0, length, last)
        _unpack(target, width, 0, 0, 1, 1, False, y, f)


@jit
def _filter_products(f, dy, x, dweight, stride, padding):
    """dweight[f] from pixels alone: in packed planes, zeros around dy make NaN of infinities that no output reads."""
    _, kh, kw = dweight.shape
    _, height, width, batch = x.shape
    filters, outputs, columns, _ = dy.shape
    plane = f // (filters // x.shape[0])
    for a in range(kh):
        for b in range(kw):
            total = 0.0
            for i in range(outputs):
                h = i * stride[0] + a - padding[0]
                for j in range(columns):
                    w = j * stride[1] + b - padding[1]
                    if 0 <= h < height and 0 <= w < width:
                        for n in range(batch):
                            total += dy[f, i, j, n] * x[plane, h, w, n]
            dweight[f, a, b] = total


@jit
def _channels_backward(begin, end, dy, x, weight, dx, dweight, stride, padding):
    """dx[begin:end] where dx is not empty, and dweight of the filters that read these channels, where dweight and x are
    not"""
    kh, kw = weight.shape[1:]
    sh, sw = stride
    filters, _, _, batch = dy.shape
    channels, height, width, _ = dx.shape if dx.size else x.shape
    multiplier = filters // channels
    lanes = VECTOR_BYTES // dy.itemsize
    above, before = (kh + sh - 1) // sh - 1, (kw + sw - 1) // sw - 1
    rows, columns = (height + padding[0] + sh - 1) // sh, (width + padding[1] + sw - 1) // sw
    pitch = columns + before
    size = rows * pitch * batch
    source = scratch(size + above * pitch * batch, dy.dtype).reshape((rows + above, pitch, batch))
    other = scratch(size, dy.dtype).reshape((rows, pitch, batch))
    target = scratch(size, dy.dtype).reshape((rows, pitch, batch))
    sums = scratch(kh * kw * lanes, dy.dtype)
    length = ((rows - 1) * pitch + columns) * batch
    zero, none = dy.dtype.type(0), dy.dtype.type(-np.inf)
    for f in range(begin * multiplier, end * multiplier):
        sums[:] = 0
        _pack(dy, f, -above, -before, 1, 1, source)
        for phase in range(sh * sw):
            a, b = phase // sw, phase % sw
            top, left = a - padding[0], b - padding[1]
            taps_y, taps_x = max(0, (kh - a + sh - 1) // sh), max(0, (kw - b + sw - 1) // sw)
            reads = ((above * pitch + before) * batch, taps_y, -pitch * batch, taps_x, -batch)
            weights = ((f * kh + a) * kw + b, sh * kw, sw)
            writes = (zero, False, target, 0, length)
            if dweight.size:
                _pack(x, f // multiplier, top, left, sh, sw, other)
                gradient_taps(source, *reads, weight, *weights, *writes, other, 0, sums, a * kw + b)
            else:
                weighted_taps(source, *reads, weight, *weights, *writes, none)
            if dx.size:
                _unpack(target, columns, top, left, sh, sw, f % multiplier > 0, dx, f // multiplier)
        if dweight.size:
            sum_lanes(sums, lanes, dweight, f)
            if not np.isfinite(dweight[f]).all():
                _filter_products(f, dy, x, dweight, stride, padding)


@parallel_jit
def _forward(shares, x, weight, bias, y, stride, padding, floor):
    for index in prange(shares):
        begin, end = share_of(np.int64(index), shares, 1, len(y))
        _filters_forward(begin, end, x, weight, bias, y, stride, padding, floor)


@parallel_jit
def _backward(shares, dy, x, weight, dx, dweight, stride, padding):
    for index in prange(shares):
        begin, end = share_of(np.int64(index), shares, 1, max(len(x), len(dx)))
        _channels_backward(begin, end, dy, x, weight, dx, dweight, stride, padding)


def _shares(y, weight):
    """(how many threads share the work, whether it is so much that they should)"""
    parallel = y.size * weight[0].size >= PARALLEL_WORK
    return share_count(parallel), parallel


def forward(x, weight, bias, y, stride, padding, floor):
    shares, parallel = _shares(y, weight)
    _forward(shares, x, weight, bias, y, stride, padding, floor, parallel=parallel)


def backward(
    dy,  # (O, HO, WO, N)
    x,  # (C, H, W, N), or empty where dweight is
    weight,  # (O, kh, kw)
    dx,  # (C, H, W, N), written, or empty: not wanted
    dweight,  # (O, kh, kw), written, or empty: not wanted
    stride,
    padding,
):
    shares, parallel = _shares(dy, weight)
    _backward(shares, dy, x, weight, dx, dweight, stride, padding, parallel=parallel)
