"""Dense and grouped k x k convolution on the CPU: the contraction's microkernels on panels packed from the image.

    y[f, i, j, n] = bias[f] + sum_(c, a, b) weight[f, c, a, b] * x[c, i * sh + a - ph, j * sw + b - pw, n]

The panel of a strip of columns holds, for every channel and tap, the pixels that the tap reads (conv2d_panels.py): the
unfolded image, but only as much of it as a second-level cache holds. From there on a convolution is a product with
C * kh * kw rows.

* Forward: the panel of x, and all filters.
* Input gradient: dx[c, i * sh + u, j * sw + v] for one phase (u, v) of the strides is a convolution of dy with the taps
  that meet there, so the panel is one of dy; with strides of 1 there is one phase, written to dx itself.
* Weight gradient: dot products of the rows of dy with the panel rows of x. Channels and columns are cut by the problem
  alone; what the cuts of columns come to is added up in their order, so bits do not depend on the threads.

Groups are convolutions of their own. Layouts: x (C, H, W, N), weight (O, C/G, kh, kw), y (O, HO, WO, N).
"""

import numpy as np
from numba import prange

from sccengine.kernels.cpu.compile import jit, parallel_jit
from sccengine.kernels.cpu.conv2d_panels import cut_rows, pack_taps, pack_tile
from sccengine.kernels.cpu.scc_microkernels import DOT_CHANNELS, DOT_ROWS, ROWS, VECTORS, dot_tiles
from sccengine.kernels.cpu.scc_panels import pack_row, row_begins
from sccengine.kernels.cpu.scc_tiles import PARALLEL_MACS, contract_panel
from sccengine.kernels.cpu.shares import add_segments, even_part, scratch, share_count, share_of, zeros
from sccengine.kernels.cpu.simd import VECTOR_BYTES, lowest

# Elements of a panel: half of a second-level cache in float32; and blocks of columns at most.
_PANEL_ELEMENTS = 1 << 18
_MOST_BLOCKS = 32
# The weight gradient: panel rows that are multiplied with all of dy at a time, columns, and cuts of the columns.
_PANEL_ROWS = 144
_CHUNK_VECTORS = 36
_MOST_SEGMENTS = 8


@jit
def _convolve_columns(
    begin, end, source, sizes, taps, steps, row_columns, packed, tiles, rows, bias, floor, y, columns
):
    """Columns begin to end of y."""
    height, width, batch = sizes
    lanes = VECTOR_BYTES // source.itemsize
    depth = len(packed) // (len(tiles) * ROWS)
    block = VECTORS * lanes
    most = min(max(_PANEL_ELEMENTS // (depth * block), 1), _MOST_BLOCKS) * block
    strip = even_part(end - begin, most, lanes)
    stride = strip + lanes  # one vector more, so that rows fall on different cache lines
    panel = scratch(depth * stride, source.dtype)
    begins = np.arange(depth) * stride
    cuts = np.empty((strip // row_columns + 2, 3), np.int64)
    first = np.zeros(len(tiles), np.int32)
    length = np.full(len(tiles), np.int32(depth))
    result = packed, tiles, first, length, rows, bias, floor, y, columns
    zero = np.int64(0)
    for column in range(begin, end, strip):
        count = min(strip, end - column)
        pieces = cut_rows(column, count, row_columns, cuts)
        pack_taps(source, height, width, batch, taps, *steps, 0, depth, cuts, pieces, stride, panel)
        contract_panel(zero, len(tiles), count, panel, zero, begins, *result, column)


@parallel_jit
def _convolve(
    parts,  # of the columns, one a thread
    source,  # (S, H, W, N) flat
    height,  # H
    width,  # W
    batch,  # N
    taps,  # (T, 2): which pixel each tap reads
    step_h,
    step_w,
    weight,  # flat
    row_stride,  # of W[r, s, t] in it
    plane_stride,
    tap_at,  # (T,)
    planes,  # S
    tiles,  # (R / ROWS,): where each tile's packed weights begin
    rows,  # (R / ROWS, ROWS) flat: the rows of each tile, or -1
    filters,  # R
    bias,  # (R,) or empty
    floor,
    y,  # (R, HO, WO, N) flat
    columns,  # HO * WO * N
    row_columns,  # WO * N
):
    packed = np.empty(len(rows) * planes * len(taps), source.dtype)
    sizes, steps = (height, width, batch), (step_h, step_w)
    order = (row_stride, plane_stride, tap_at, planes)
    lanes = VECTOR_BYTES // source.itemsize
    result = (row_columns, packed, tiles, rows, bias, floor, y, columns)
    for index in prange(len(tiles)):
        tile = np.int64(index)
        pack_tile(tile, weight, *order, min(ROWS, filters - tile * ROWS), packed)
    for index in prange(parts):
        part = np.int64(index)
        begin, end = share_of(part, parts, lanes, columns)
        _convolve_columns(begin, end, source, sizes, taps, steps, *result)


def _run(source, weight, strides, taps, tap_at, steps, bias, y):
    """y (R, HO, WO, N) from source (S, H, W, N); strides: of W's rows and planes in weight; taps: (dh, dw) each."""
    filters, _, width, batch = y.shape
    columns = y[0].size
    count = -(-filters // ROWS)
    rows = np.full(count * ROWS, -1, np.int32)
    rows[:filters] = np.arange(filters)
    depth = len(source) * len(taps)
    parallel = filters * depth * columns >= PARALLEL_MACS
    _convolve(
        share_count(parallel),
        source.reshape(-1),
        *source.shape[1:],
        np.array(taps, np.int64).reshape(-1, 2),
        *steps,
        weight.reshape(-1),
        *strides,
        np.array(tap_at, np.int64),
        len(source),
        np.arange(count) * depth * ROWS,
        rows,
        filters,
        weight.reshape(-1)[:0] if bias is None else bias,
        lowest(y.dtype, False),
        y.reshape(-1),
        columns,
        width * batch,
        parallel=parallel,
    )


@jit
def _segment_products(
    begin, end, chunk, first_row, last_row, dy, columns, row_columns, source, sizes, taps, steps, filters, products
):
    """products (tiles, last_row - first_row, DOT_ROWS) += dot products of the rows of dy with panel rows of x."""
    height, width, batch = sizes
    lanes = VECTOR_BYTES // source.itemsize
    stride = chunk + lanes
    count_rows = last_row - first_row
    padded = (count_rows + DOT_CHANNELS - 1) // DOT_CHANNELS * DOT_CHANNELS
    panel = scratch(count_rows * stride, source.dtype)
    # Rows of dy are read where they lie, but where their last columns fill no vector.
    packs = columns % lanes > 0
    dy_rows = scratch(filters * stride, source.dtype) if packs else dy
    # A dot tile reads whole DOT_ROWS of dy and whole DOT_CHANNELS of the panel.
    dy_begins = row_begins(np.arange(filters), filters, DOT_ROWS, packs, stride, columns)
    begins = row_begins(np.arange(count_rows), count_rows, DOT_CHANNELS, True, stride, columns)
    cuts = np.empty((chunk // row_columns + 2, 3), np.int64)
    zero = np.int64(0)
    for column in range(begin, end, chunk):
        count = min(chunk, end - column)
        pieces = cut_rows(column, count, row_columns, cuts)
        dy_at = zero if packs else column
        if packs:
            for f in range(filters):
                pack_row(dy, f * columns + column, count, dy_rows, f * stride)
        pack_taps(source, height, width, batch, taps, *steps, first_row, last_row, cuts, pieces, stride, panel)
        for f in range(0, filters, DOT_ROWS):
            rows = dy_rows, dy_at, dy_begins, f, panel, zero, begins, zero
            dot_tiles(*rows, padded // DOT_CHANNELS, (count + lanes - 1) // lanes, products, f * padded)


@jit
def _weight_part(index, blocks, segments, chunk, dy, columns, row_columns, source, sizes, taps, steps, filters, sums):
    """The products of one segment of columns with one block of panel rows, in their place in ``sums``."""
    segment, block = index // blocks, index % blocks
    depth = len(source) // (sizes[0] * sizes[1] * sizes[2]) * len(taps)
    begin, end = share_of(segment, segments, chunk, columns)
    size = len(sums) // (segments * blocks)
    _segment_products(
        begin,
        end,
        chunk,
        block * _PANEL_ROWS,
        min((block + 1) * _PANEL_ROWS, depth),
        dy,
        columns,
        row_columns,
        source,
        sizes,
        taps,
        steps,
        filters,
        sums[index * size : (index + 1) * size],
    )


@jit
def _add_segments(group, blocks, segments, filters, depth, sums, dweight):
    """dweight of DOT_ROWS filters: the sums of all segments."""
    size = len(sums) // (segments * blocks)
    for block in range(blocks):
        first_row = block * _PANEL_ROWS
        rows = min(_PANEL_ROWS, depth - first_row)
        padded = (rows + DOT_CHANNELS - 1) // DOT_CHANNELS * DOT_CHANNELS
        begin = block * size + group * DOT_ROWS * padded
        add_segments(sums, begin, begin + DOT_ROWS * padded, blocks * size, segments)
        for r in range(min(DOT_ROWS, filters - group * DOT_ROWS)):
            target = (group * DOT_ROWS + r) * depth + first_row
            for row in range(rows):
                dweight[np.uint64(target + row)] = sums[np.uint64(begin + row * DOT_ROWS + r)]


@parallel_jit
def _correlate(
    segments,  # of the columns,
    chunk,  # and how many of them are packed at a time
    dy,  # (O, HO, WO, N) flat
    columns,  # HO * WO * N
    row_columns,  # WO * N
    source,  # x (C, H, W, N) flat
    height,  # H
    width,  # W
    batch,  # N
    taps,  # (T, 2)
    step_h,
    step_w,
    depth,  # C * T
    dweight,  # (O, C, T) flat
):
    filters = len(dweight) // depth
    blocks = (depth + _PANEL_ROWS - 1) // _PANEL_ROWS
    rows = min(depth, _PANEL_ROWS) + DOT_CHANNELS
    sums = zeros(segments * blocks * (filters + DOT_ROWS) * rows, dy.dtype)
    sizes, steps = (height, width, batch), (step_h, step_w)
    for index in prange(segments * blocks):
        part = np.int64(index)
        _weight_part(part, blocks, segments, chunk, dy, columns, row_columns, source, sizes, taps, steps, filters, sums)
    for index in prange((filters + DOT_ROWS - 1) // DOT_ROWS):
        _add_segments(np.int64(index), blocks, segments, filters, depth, sums, dweight)


def _taps(kernel):
    """(a, b) of each tap, and its place in a filter."""
    return [(a, b) for a in range(kernel[0]) for b in range(kernel[1])]


def _group(array, group, groups):
    """The part of the first axis that belongs to a group."""
    size = len(array) // groups
    return array[group * size : (group + 1) * size]


def forward(x, weight, bias, y, stride, padding, groups):
    """y (O, HO, WO, N) from x (C, H, W, N), weight (O, C/G, kh, kw) and bias (O,) or None."""
    taps = [(a - padding[0], b - padding[1]) for a, b in _taps(weight.shape[2:])]
    strides = weight[0].size, len(taps)
    for group in range(groups):
        part_x, part_weight, part_y = (_group(array, group, groups) for array in (x, weight, y))
        part_bias = None if bias is None else _group(bias, group, groups)
        _run(part_x, part_weight, strides, taps, range(len(taps)), stride, part_bias, part_y)


def backward_input(dy, weight, dx, stride, padding, groups):
    """dx (C, H, W, N) from dy (O, HO, WO, N)."""
    kernel = weight.shape[2:]
    strides = kernel[0] * kernel[1], weight[0].size
    for group in range(groups):
        part_dy, part_weight, part_dx = (_group(array, group, groups) for array in (dy, weight, dx))
        for u in range(min(stride[0], dx.shape[1])):
            for v in range(min(stride[1], dx.shape[2])):
                phase = part_dx[:, u :: stride[0], v :: stride[1]]
                met = [
                    ((u + padding[0] - a) // stride[0], (v + padding[1] - b) // stride[1], a * kernel[1] + b)
                    for a, b in _taps(kernel)
                    if (u + padding[0] - a) % stride[0] == 0 and (v + padding[1] - b) % stride[1] == 0
                ]
                if not met:
                    phase[...] = 0
                    continue
                target = phase if phase.flags.c_contiguous else np.empty(phase.shape, dx.dtype)
                taps, tap_at = [tap[:2] for tap in met], [tap[2] for tap in met]
                _run(part_dy, part_weight, strides, taps, tap_at, (1, 1), None, target)
                if target is not phase:
                    phase[...] = target


def backward_weight(dy, x, dweight, stride, padding, groups):
    """dweight (O, C/G, kh, kw) from dy (O, HO, WO, N) and x (C, H, W, N)."""
    taps = [(a - padding[0], b - padding[1]) for a, b in _taps(dweight.shape[2:])]
    columns = dy[0].size
    lanes = VECTOR_BYTES // x.itemsize
    chunk = min(_CHUNK_VECTORS, -(-columns // lanes)) * lanes
    # A power of two, so that threads get equal shares; more would pay only where there is little else to share out.
    segments = 1 << max(min(columns // chunk, _MOST_SEGMENTS).bit_length() - 1, 0)
    for group in range(groups):
        part_dy, part_x, part_dweight = (_group(array, group, groups) for array in (dy, x, dweight))
        _correlate(
            segments,
            chunk,
            part_dy.reshape(-1),
            columns,
            dy.shape[2] * dy.shape[3],
            part_x.reshape(-1),
            *x.shape[1:],
            np.array(taps, np.int64),
            *stride,
            part_dweight[0].size,
            part_dweight.reshape(-1),
            parallel=part_dweight.size * columns >= PARALLEL_MACS,
        )
