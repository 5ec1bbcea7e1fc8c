"""Depthwise convolution as runs: which taps an output position has, and where they read, along each axis.

The batch lies innermost, so a pixel is a run of N numbers and, at stride 1, neighbouring pixels with the same taps make
one longer run. All of it is worked out once for a geometry, as two tables, of rows and of columns; what makes use of
them (gather_plane and gather_gradients) is the same for all geometries.
"""

import functools

import numpy as np

from sccengine.kernels.cpu.compile import jit
from sccengine.kernels.cpu.taps import gradient_taps, weighted_taps

#: Columns of a table of runs.
BEGIN, LENGTH, COUNT, SOURCE, SOURCE_STEP, TAP, TAP_STEP = range(7)


@functools.lru_cache(maxsize=1024)
def _forward_table(size, outputs, kernel, stride, padding, merge):
    """Runs of output positions along one axis; ``merge`` joins neighbours with the same taps."""
    runs = []
    for position in range(outputs):
        start = position * stride - padding
        tap = max(0, -start)
        count = max(0, min(kernel, size - start) - tap)
        runs.append([position, 1, count, start + tap if count else 0, 1, tap if count else 0, 1])
    return _merged(runs, merge and stride == 1)


@functools.lru_cache(maxsize=1024)
def _input_gradient_table(size, outputs, kernel, stride, padding, merge):
    """The same for positions of the input, each with the taps through which an output read it."""
    runs = []
    for position in range(size):
        padded = position + padding
        taps = [t for t in range(kernel) if (padded - t) % stride == 0 and 0 <= (padded - t) // stride < outputs]
        first = taps[0] if taps else 0
        runs.append([position, 1, len(taps), (padded - first) // stride if taps else 0, -1, first, stride])
    return _merged(runs, merge and stride == 1)


def _merged(runs, merge):
    merged = []
    for run in runs:
        if merge and merged and (run[COUNT], run[TAP]) == (merged[-1][COUNT], merged[-1][TAP]):
            merged[-1][LENGTH] += 1
        else:
            merged.append(list(run))
    return np.array(merged, dtype=np.int64).reshape(-1, 7)


def forward_runs(x, y, kernel, stride, padding):
    """The tables (rows, columns) with which gather_plane makes y (.., HO, WO, N) from x (.., H, W, N).

    Row i of y belongs to row i of the first table: a part of it makes those rows of y alone.
    """
    return _tables(_forward_table, x, y, kernel, stride, padding)


def input_gradient_runs(dx, dy, kernel, stride, padding):
    """The tables with which gather_plane makes dx from dy."""
    return _tables(_input_gradient_table, dx, dy, kernel, stride, padding)


def _tables(table, x, y, kernel, stride, padding):
    rows = table(x.shape[1], y.shape[1], kernel[0], stride[0], padding[0], False)
    return rows, table(x.shape[2], y.shape[2], kernel[1], stride[1], padding[1], True)


@jit
def _run(source, source_plane, weight, f, target, target_plane, rows, i, columns, r):
    """The arguments of a microkernel that say where run r of row i reads, which weights are its, and what it writes."""
    kh, kw = weight.shape[1:]
    _, height, width, batch = source.shape
    _, target_height, target_width, _ = target.shape
    row_size = width * batch
    source_at = (source_plane * height + rows[i, SOURCE]) * row_size + columns[r, SOURCE] * batch
    step_y, step_x = rows[i, SOURCE_STEP] * row_size, columns[r, SOURCE_STEP] * batch
    reads = (source_at, rows[i, COUNT], step_y, columns[r, COUNT], step_x)
    weights = ((f * kh + rows[i, TAP]) * kw + columns[r, TAP], rows[i, TAP_STEP] * kw, columns[r, TAP_STEP])
    target_at = ((target_plane * target_height + i) * target_width + columns[r, BEGIN]) * batch
    return reads, weights, (target_at, columns[r, LENGTH] * batch)


@jit
def gather_plane(source, source_plane, weight, f, init, accumulate, target, target_plane, rows, columns, floor):
    """target[target_plane] = max(floor, init, or itself, + the taps of filter f over source[source_plane])."""
    for i in range(target.shape[1]):
        for r in range(columns.shape[0]):
            reads, weights, writes = _run(source, source_plane, weight, f, target, target_plane, rows, i, columns, r)
            weighted_taps(source, *reads, weight, *weights, init, accumulate, target, *writes, floor)


@jit
def gather_gradients(dy, x, plane, weight, f, accumulate, dx, dx_plane, rows, columns, sums):
    """dx[dx_plane] = 0, or itself, + the taps of filter f over dy[f], and sums of those taps' dy times x[plane]."""
    kh, kw = weight.shape[1:]
    zero = dx.dtype.type(0)
    apart = (plane - dx_plane) * (x.size // x.shape[0])
    for i in range(dx.shape[1]):
        for r in range(columns.shape[0]):
            reads, weights, writes = _run(dy, f, weight, f, dx, dx_plane, rows, i, columns, r)
            first_tap = weights[0] - f * kh * kw
            gradient_taps(
                dy, *reads, weight, *weights, zero, accumulate, dx, *writes, x, writes[0] + apart, sums, first_tap
            )
