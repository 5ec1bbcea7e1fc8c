"""All gradients of the channel-window contraction over tiles, chunk by chunk of columns.

    dx (C, M) = W^T dy        dweight[f, k] = dy[f] . x[(start[f] + k) mod C]        dbias[f] = sum_m dy[f, m]

Columns are cut into segments, a segment into chunks. The rows of dy in a chunk serve the tiles of dx (as in
scc_tiles.py), the bias gradient and, with the rows of x, the dot products of dweight. So dy and x are read from memory
once, and x where it lies. Where many tiles of dx read a row of dy, the rows of a chunk are packed, in the order of
their filters' starts: they lie M apart, often a power of two, and would drive each other from the cache in between.

Each segment has its own products, added up at the end in the order of the segments. How columns are cut depends on the
problem alone. Where there are more threads than segments, several share one, each with its own tiles of dx and of
dweight. So every sum is taken in one order, and the bits do not depend on the number of threads.
"""

import functools

import numpy as np
from numba import prange

from sccengine.kernels.cpu.compile import jit, parallel_jit
from sccengine.kernels.cpu.scc_microkernels import DOT_CHANNELS, DOT_ROWS, dot_tiles
from sccengine.kernels.cpu.scc_panels import pack_weights, packed_offsets, row_begins, tile_size, window_begin
from sccengine.kernels.cpu.scc_tiles import contract_panel, is_large, pack_panel, transposed_tiles_of
from sccengine.kernels.cpu.shares import add_segments, scratch, share_count, share_of, zeros
from sccengine.kernels.cpu.simd import VECTOR_BYTES

# Elements of x and dy in a chunk: most of a second-level cache in float32, but so many vectors of each row at least
# that adding up the lanes of a dot tile is little beside it.
_CHUNK_ELEMENTS = 3 << 17
_CHUNK_VECTORS = 32, 36
_MOST_SEGMENTS = 8
# How many tiles of dx may read a row of dy that is not packed: packing costs more than it saves there.
_UNPACKED_READS = 2 if VECTOR_BYTES < 64 else 4


@jit
def _run_sum(packed, begin, count):
    """The sum of a short run, in its own type: in float64 it would take four times as long."""
    total = packed.dtype.type(0)
    for i in range(begin, begin + count):
        total += packed[np.uint64(i)]
    return total


@jit
def _reach(first, length, begin_tile, end_tile):
    """The rows [begin, end) of the panel that some tiles read."""
    begin, end = np.int64(2**31), np.int64(0)
    for tile in range(begin_tile, end_tile):
        begin = min(begin, np.int64(first[tile]))
        end = max(end, np.int64(first[tile] + length[tile]))
    return begin, end


@jit
def _gradients(
    begin,  # columns from begin
    end,
    chunk,  # by so many,
    part,  # and of all tiles the part-th of
    parts,
    dy,  # (O, M) flat
    x,  # (C, M) flat
    columns,  # M
    dx_panel,  # the tiles of dx, or none of them,
    dx_first,
    dx_length,
    dx_rows,
    packed,  # and their weights
    packed_at,
    dx,  # (C, M) flat, or empty
    panel,  # the tiles of filters
    first,
    length,
    filter_at,  # (T + 1,) where the filters of each begin in dx_panel
    products,  # added to
    products_at,
    bias_sums,  # (O,), in the order of dx_panel: added to; or empty: not wanted
):
    lanes = VECTOR_BYTES // x.itemsize
    stride = chunk + lanes  # one vector more, so that rows fall on different cache lines
    begin_dx, end_dx = part * len(dx_first) // parts, (part + 1) * len(dx_first) // parts
    begin_tile, end_tile = part * len(first) // parts, (part + 1) * len(first) // parts
    begin_filter, end_filter = filter_at[begin_tile], filter_at[end_tile]
    begin_dy, end_dy = _reach(dx_first, dx_length, begin_dx, end_dx)
    begin_dy, end_dy = min(begin_dy, begin_filter), max(end_dy, end_filter)
    begin_x, end_x = _reach(first, length, begin_tile, end_tile)
    # The last columns of a row that lies in place must fill a vector, too.
    packs_x = columns % lanes > 0
    packs_dy = packs_x or dx_length.sum() > _UNPACKED_READS * (len(dy) // columns)
    dy_rows = scratch(len(dx_panel) * stride, x.dtype) if packs_dy else dy
    x_rows = scratch(len(panel) * stride, x.dtype) if packs_x else x
    # A dot tile may read up to DOT_CHANNELS - 1 rows of x and DOT_ROWS - 1 of dy beyond its own.
    dy_begins = row_begins(dx_panel, end_dy, DOT_ROWS, packs_dy, stride, columns)
    x_begins = row_begins(panel, end_x, DOT_CHANNELS, packs_x, stride, columns)
    zero = np.int64(0)
    for column in range(begin, end, chunk):
        count = min(chunk, end - column)
        dy_at, x_at = zero if packs_dy else column, zero if packs_x else column
        if packs_dy:
            pack_panel(dy, columns, column, count, dx_panel, begin_dy, end_dy, stride, dy_rows)
        if packs_x:
            pack_panel(x, columns, column, count, panel, begin_x, end_x, stride, x_rows)
        contract_panel(
            begin_dx,
            end_dx,
            count,
            dy_rows,
            dy_at,
            dy_begins,
            packed,
            packed_at,
            dx_first,
            dx_length,
            dx_rows,
            dx[:0],
            x.dtype.type(-np.inf),
            dx,
            columns,
            column,
        )
        for tile in range(begin_tile, end_tile):
            if len(bias_sums):
                for i in range(filter_at[tile], filter_at[tile + 1]):
                    bias_sums[i] += _run_sum(dy_rows, dy_at + dy_begins[i], count)
            rows = dy_rows, dy_at, dy_begins, filter_at[tile], x_rows, x_at, x_begins, np.int64(first[tile])
            tiles, vectors = (length[tile] + DOT_CHANNELS - 1) // DOT_CHANNELS, (count + lanes - 1) // lanes
            dot_tiles(*rows, tiles, vectors, products, products_at[tile])


@jit
def _add_up(tile, segments, products, products_at, starts, channels, width, panel, first, rows, dweight):
    """dweight of a tile's filters: the products of all segments that lie in their windows."""
    begin = products_at[tile]
    add_segments(products, begin, products_at[tile + 1], products_at[-1], segments)
    for r in range(DOT_ROWS):
        filter_ = np.int64(rows[tile * DOT_ROWS + r])
        if filter_ < 0:
            continue
        window = window_begin(filter_, tile, starts, channels, panel, first)
        source = begin + window * DOT_ROWS + r
        target = filter_ * width
        before_wrap = min(width, channels - window)
        for tap in range(before_wrap):
            dweight[np.uint64(target + tap)] = products[np.uint64(source + tap * DOT_ROWS)]
        for tap in range(before_wrap, width):
            dweight[np.uint64(target + tap)] = products[np.uint64(source + (tap - channels) * DOT_ROWS)]


@jit
def _segment(index, segments, parts, chunk, products, products_at, bias_sums, dy, x, columns, *problem):
    """One part of one segment; from dy on, the arguments of _gradients."""
    segment, part = index // parts, index % parts
    begin, end = share_of(segment, segments, chunk, columns)
    own_products = products[segment * products_at[-1] : (segment + 1) * products_at[-1]]
    biases = len(bias_sums) // segments
    own_sums = bias_sums[segment * biases : (segment + 1) * biases]
    _gradients(begin, end, chunk, part, parts, dy, x, columns, *problem, own_products, products_at, own_sums)


@parallel_jit
def _backward(
    threads,  # that share the segments
    segments,
    chunk,  # columns
    dy,  # (O, M) flat
    x,  # (C, M) flat
    columns,  # M
    weight,  # (O, K) flat
    starts,  # (O,)
    channels,  # C
    width,  # K
    dx_panel,  # the tiles of dx
    dx_first,
    dx_length,
    dx_rows,
    dx,  # (C, M) flat
    panel,  # the tiles of filters
    first,
    length,
    rows,
    filter_at,
    dweight,  # (O, K) flat
    dbias,  # (O,) or empty
):
    dx_tiles = (dx_panel, dx_first, dx_length, dx_rows)
    packed_at = packed_offsets(dx_length, np.int64(1), tile_size(dx_rows, dx_first))
    products_at = packed_offsets(length, np.int64(DOT_CHANNELS), np.int64(DOT_ROWS))
    packed = np.empty(packed_at[-1], x.dtype)
    products, bias_sums = zeros(segments * products_at[-1], x.dtype), zeros(segments * len(dbias), np.float64)
    windows = (weight, weight[:0], starts, channels, width, True)
    parts = (threads + segments - 1) // segments
    sums = (products, products_at, bias_sums)
    problem = (dy, x, columns, *dx_tiles, packed, packed_at, dx, panel, first, length, filter_at)
    totals = (segments, products, products_at, starts, channels, width, panel, first, rows, dweight)
    for index in prange(len(dx_first)):
        tile = np.int64(index)
        pack_weights(tile, *windows, *dx_tiles, packed, packed_at[tile])
    for index in prange(segments * parts):
        _segment(np.int64(index), segments, parts, chunk, *sums, *problem)
    for index in prange(len(first)):
        _add_up(np.int64(index), *totals)
    for i in range(len(dbias)):
        total = 0.0
        for segment in range(segments):
            total += bias_sums[segment * len(dbias) + i]
        dbias[dx_panel[i]] = total


def backward(dy, x, weight, dx, dweight, dbias, windows):
    """dx (C, M), dweight (O, K) and dbias (O,) from dy (O, M), x (C, M) and weight (O, K).

    dx may be None, and weight is not read then; so may dbias.
    """
    tiles, dx_tiles = windows.tiles(DOT_ROWS), transposed_tiles_of(windows)
    dx_panel, dx_first, dx_length, dx_rows = dx_tiles.tables
    if dx is None:
        dx_first, dx_length = dx_first[:0], dx_length[:0]
    columns = x.shape[1]
    chunk, segments = _cut(columns, len(tiles.panel) + len(dx_tiles.panel), tiles.size * tiles.reads, x.itemsize)
    dweight = dweight.reshape(-1)
    weight = dweight[:0] if dx is None else weight.reshape(-1)
    parallel = is_large(tiles, columns)
    _backward(
        share_count(parallel),
        segments,
        chunk,
        dy.reshape(-1),
        x.reshape(-1),
        columns,
        weight,
        windows.starts,
        windows.in_channels,
        windows.width,
        dx_panel,
        dx_first,
        dx_length,
        dx_rows,
        weight[:0] if dx is None else dx.reshape(-1),
        *tiles.tables,
        tiles.begins,
        dweight,
        weight[:0] if dbias is None else dbias,
        parallel=parallel,
    )


@functools.lru_cache(maxsize=1024)
def _cut(columns, rows, products, itemsize):
    """(columns of a chunk, segments) for so many rows of the panels and products of dweight.

    A power of two of segments, so that threads get equal shares, and no more products in all than elements.
    """
    lanes = VECTOR_BYTES // itemsize
    most = min(max(_CHUNK_ELEMENTS // (rows * lanes), _CHUNK_VECTORS[0]), _CHUNK_VECTORS[1]) * lanes
    segments = min(columns // most, columns * rows // products, _MOST_SEGMENTS)
    segments = 1 << max(segments.bit_length() - 1, 0)
    turns = -(-columns // (segments * most))
    chunk = -(-columns // (segments * turns * lanes)) * lanes
    return chunk, segments


def backward_weight(dy, x, dweight, windows):
    """dweight (O, K) = the entries of dy x^T inside the windows; dy (O, M), x (C, M)."""
    backward(dy, x, None, None, dweight, None, windows)
