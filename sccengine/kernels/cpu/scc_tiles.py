"""The channel-window contraction over tiles of sorted windows: the engine's default on the CPU.

Filters sorted by the start of their window are cut into tiles of ROWS; a tile reads the union of its windows once,
weights outside a filter's window being zero (``windows.Tiles``). The input gradient is the same contraction with
channels for filters (``windows.transposed_tiles``), so ``contract`` serves both:

    forward     y (O, M)  = W x          W[f, c] = weight[f, (c - start[f]) mod C] where that tap is below K, else 0
    transposed  dx (C, M) = W^T dy

and ``contract_weight`` sums dy[f] . x[c] over the same tiles. (0 * inf is NaN: an infinity or a NaN in a channel spoils
all filters of a tile that reads it, also those whose own window does not.)

Nothing of the size of a gathered window is ever stored:

* the weights of a tile are packed so that those of one panel row stand side by side (at most W's nonzeros, padded);
* columns are taken in blocks of a few vectors, and the source rows of a block packed into one small panel: rows lie M
  apart, often a power of two, and would otherwise fall on the same few cache lines;
* the microkernel (scc_microkernels.py) keeps a whole tile in registers over the whole window.

Work is shared out by blocks of columns (forward) or tiles (weight gradient); every sum is taken by one thread in one
order, so the bits do not depend on the number of threads.
"""

import numpy as np
from numba import get_num_threads, prange

from sccengine.kernels.cpu.compile import jit, parallel_jit
from sccengine.kernels.cpu.scc_microkernels import (
    CHANNELS,
    ROWS,
    VECTORS,
    copy_vectors,
    dot_tile,
    outer_tile_1,
    outer_tile_2,
    outer_tile_3,
)
from sccengine.kernels.cpu.simd import VECTOR_BYTES, lowest

# Multiply-accumulates below which waking a second thread costs more than it saves.
_PARALLEL_MACS = 1 << 21
# Elements of x that a weight-gradient chunk packs at once: half of a second-level cache in float32.
_CHUNK_ELEMENTS = 1 << 18
# Elements and blocks of columns that a strip of the forward packs at once: long runs of a row, within half a cache.
_STRIP_ELEMENTS = 1 << 17
_STRIP_BLOCKS = 32
# Vectors of a chunk at most: 8 rows of dy stay in the first-level cache.
_CHUNK_VECTORS = 64


@jit
def pack_weights(tile, weight, scale, starts, channels, width, transposed, panel, first, length, rows, packed, at):
    """Write W's entries of one tile to packed[at:], ROWS values a panel row.

    scale (O,), or empty: factors of the filters, for a tile of filters.
    """
    # Unsigned indices: a signed one would be tested for counting from the end, which costs more than the copy.
    if transposed:
        _pack_channels(tile, weight, starts, channels, width, panel, first, length, rows, packed, at)
    else:
        _pack_filters(tile, weight, scale, starts, channels, width, panel, first, length, rows, packed, at)


@jit
def _pack_filters(tile, weight, scale, starts, channels, width, panel, first, length, rows, packed, at):
    """The rows are filters: the taps of each lie one panel row apart from where its window begins."""
    for j in range(np.int64(length[tile]) * ROWS):
        packed[np.uint64(at + j)] = 0
    for r in range(ROWS):
        row = np.int64(rows[tile * ROWS + r])
        if row < 0:
            continue
        begin = np.int64(starts[row]) - panel[first[tile]]
        if begin < 0:
            begin += channels
        source = row * width
        target = at + r + begin * ROWS
        before_wrap = min(width, channels - begin)
        factor = scale[row] if len(scale) else weight.dtype.type(1)
        for tap in range(before_wrap):
            packed[np.uint64(target + tap * ROWS)] = weight[np.uint64(source + tap)] * factor
        for tap in range(before_wrap, width):
            packed[np.uint64(target + (tap - channels) * ROWS)] = weight[np.uint64(source + tap)] * factor


@jit
def _pack_channels(tile, weight, starts, channels, width, panel, first, length, rows, packed, at):
    """The rows are neighbouring channels: a filter of the panel reads them with neighbouring taps."""
    channel = np.int64(rows[tile * ROWS])
    full = rows[tile * ROWS + ROWS - 1] >= 0
    for i in range(length[tile]):
        filter_ = np.int64(panel[first[tile] + i])
        tap = channel - starts[filter_]
        if tap < 0:
            tap += channels
        source = filter_ * width
        target = at + i * ROWS
        if full and tap + ROWS <= width:
            for r in range(ROWS):
                packed[np.uint64(target + r)] = weight[np.uint64(source + tap + r)]
        else:
            for r in range(ROWS):
                value = weight.dtype.type(0)
                if tap < width and rows[tile * ROWS + r] >= 0:
                    value = weight[np.uint64(source + tap)]
                packed[np.uint64(target + r)] = value
                tap = tap + 1 if tap + 1 < channels else 0


@jit
def _pack_row(source, start, count, lanes, packed, at):
    """Copy ``count`` columns of one source row to packed[at:], and zeros up to a whole vector."""
    whole = count // lanes * lanes
    copy_vectors(source, start, packed, at, count // lanes)
    if whole < count:
        for j in range(whole, count):
            packed[at + j] = source[start + j]
        for j in range(count, whole + lanes):
            packed[at + j] = source.dtype.type(0)


@jit
def _outer_tile(
    vectors, panel, begin, stride, packed, packed_at, count, y, rows, rows_at, y_stride, column, bias, floor
):
    if vectors == 3:
        outer_tile_3(panel, begin, stride, packed, packed_at, count, y, rows, rows_at, y_stride, column, bias, floor)
    elif vectors == 2:
        outer_tile_2(panel, begin, stride, packed, packed_at, count, y, rows, rows_at, y_stride, column, bias, floor)
    else:
        outer_tile_1(panel, begin, stride, packed, packed_at, count, y, rows, rows_at, y_stride, column, bias, floor)


@jit
def contract_group(
    begin_block,  # of columns of the source
    end_block,
    source,  # (S, M) flat
    columns,  # M
    panel,  # the Tiles, as for _contract
    first,
    length,
    rows,
    packed,  # W, as pack_weights lays it out
    packed_at,  # (T,), where each tile of it begins
    bias,  # (R,) or empty
    floor,  # 0 for ReLU, -inf for none
    y,  # (R, y_columns) flat: column m of the source makes column y_at + m
    y_columns,
    y_at,
):
    """Blocks of columns, a strip of them at a time: pack the strip's panel, then run the microkernel tile by tile."""
    lanes = VECTOR_BYTES // source.itemsize
    width = VECTORS * lanes  # of a block
    size = len(panel) * width
    strip = min(max(_STRIP_ELEMENTS // size, 1), _STRIP_BLOCKS)
    scratch = np.empty(strip * size, source.dtype)
    spill = np.empty(ROWS * width, source.dtype)
    spill_rows = np.arange(ROWS).astype(np.int32)
    spill_bias = np.zeros(ROWS, source.dtype)
    for strip_begin in range(begin_block, end_block, strip):
        strip_end = min(strip_begin + strip, end_block)
        for i in range(len(panel)):
            for block in range(strip_begin, strip_end):
                start = np.int64(panel[i]) * columns + block * width
                count = min(width, columns - block * width)
                _pack_row(source, start, count, lanes, scratch, (block - strip_begin) * size + i * width)
        for tile in range(len(first)):
            at, depth = packed_at[tile], length[tile]
            for block in range(strip_begin, strip_end):
                begin = (block - strip_begin) * size + first[tile] * width
                column = block * width
                count = min(width, columns - column)
                vectors = (count + lanes - 1) // lanes
                if vectors * lanes == count:
                    target, target_rows, rows_at, row_stride, target_column, offsets = (
                        y,
                        rows,
                        tile * ROWS,
                        y_columns,
                        y_at + column,
                        bias,
                    )
                else:
                    # The last columns fill no whole vector: compute them aside and copy what belongs to y.
                    _copy_bias(bias, rows, tile * ROWS, spill_bias)
                    target, target_rows, rows_at, row_stride, target_column, offsets = (
                        spill,
                        spill_rows,
                        0,
                        width,
                        0,
                        spill_bias,
                    )
                _outer_tile(
                    vectors,
                    scratch,
                    begin,
                    width,
                    packed,
                    at,
                    depth,
                    target,
                    target_rows,
                    rows_at,
                    row_stride,
                    target_column,
                    offsets,
                    floor,
                )
                if vectors * lanes != count:
                    _copy_spill(spill, width, count, rows, tile * ROWS, y, y_columns, y_at + column)


@jit
def _copy_bias(bias, rows, rows_at, spill_bias):
    for r in range(ROWS):
        row = np.int64(rows[rows_at + r])
        if row >= 0 and len(bias):
            spill_bias[r] = bias[row]


@jit
def _copy_spill(spill, width, count, rows, rows_at, y, columns, column):
    for r in range(ROWS):
        row = np.int64(rows[rows_at + r])
        if row >= 0:
            for j in range(count):
                y[row * columns + column + j] = spill[r * width + j]


@jit
def packed_offsets(length, unit):
    """Where each tile's packed values begin, and after the last their number; lengths rounded up to ``unit``."""
    offsets = np.zeros(len(length) + 1, np.int64)
    for tile in range(len(length)):
        offsets[tile + 1] = offsets[tile] + (length[tile] + unit - 1) // unit * unit * ROWS
    return offsets


@parallel_jit
def _contract(
    groups,  # of columns, one a thread: 1 runs on the calling thread
    source,  # (S, M) flat
    columns,  # M
    weight,  # (O, K) flat
    scale,  # (O,), or empty: factors of the filters
    starts,  # (O,)
    channels,  # C
    width,  # K
    transposed,
    panel,  # the Tiles: source rows as read,
    first,  # (T,) where each tile reads,
    length,  # (T,) how many,
    rows,  # (T, ROWS) flat, and what it writes
    bias,  # (R,) or empty
    floor,  # 0 for ReLU, -inf for none
    y,  # (R, M) flat
):
    packed_at = packed_offsets(length, 1)
    packed = np.empty(packed_at[-1], source.dtype)
    windows = (starts, channels, width, transposed)
    tiles = (panel, first, length, rows)
    result = (bias, floor, y, columns, np.int64(0))
    block_columns = VECTORS * (VECTOR_BYTES // source.itemsize)
    blocks = (columns + block_columns - 1) // block_columns
    if groups > 1:
        for index in prange(len(first)):
            tile = np.int64(index)
            pack_weights(tile, weight, scale, *windows, *tiles, packed, packed_at[tile])
        for index in prange(groups):
            group = np.int64(index)
            begin, end = group * blocks // groups, (group + 1) * blocks // groups
            contract_group(begin, end, source, columns, *tiles, packed, packed_at, *result)
    else:
        for tile in range(len(first)):
            pack_weights(tile, weight, scale, *windows, *tiles, packed, packed_at[tile])
        contract_group(np.int64(0), blocks, source, columns, *tiles, packed, packed_at, *result)


@jit
def _weight_group(begin_tile, end_tile, dy, x, columns, starts, channels, width, panel, first, length, rows, dweight):
    """The weight gradient of the filters of some tiles, over all columns."""
    lanes = VECTOR_BYTES // x.itemsize
    chunk_vectors = min(max(_CHUNK_ELEMENTS // (len(panel) * lanes), 4), _CHUNK_VECTORS, (columns + lanes - 1) // lanes)
    chunk = chunk_vectors * lanes
    stride = chunk + lanes  # one vector more, so that rows fall on different cache lines
    begin = first[begin_tile]
    end = begin
    for tile in range(begin_tile, end_tile):
        begin = min(begin, first[tile])
        end = max(end, first[tile] + length[tile])
    filters = rows[begin_tile * ROWS : end_tile * ROWS]
    products_at = packed_offsets(length[begin_tile:end_tile], CHANNELS)
    products = np.zeros(products_at[-1], x.dtype)
    # A dot tile may read up to CHANNELS - 1 rows beyond a window: there are zeros behind the last.
    x_panel = np.zeros((end - begin + CHANNELS) * stride, x.dtype)
    dy_panel = np.zeros(len(filters) * stride, x.dtype)
    for column in range(0, columns, chunk):
        count = min(chunk, columns - column)
        vectors = (count + lanes - 1) // lanes
        for i in range(begin, end):
            _pack_row(x, np.int64(panel[i]) * columns + column, count, lanes, x_panel, (i - begin) * stride)
        for i in range(len(filters)):
            if filters[i] >= 0:
                _pack_row(dy, np.int64(filters[i]) * columns + column, count, lanes, dy_panel, i * stride)
        for tile in range(begin_tile, end_tile):
            for c in range(0, length[tile], CHANNELS):
                dot_tile(
                    dy_panel,
                    (tile - begin_tile) * ROWS * stride,
                    x_panel,
                    (first[tile] - begin + c) * stride,
                    stride,
                    vectors,
                    products,
                    products_at[tile - begin_tile] + c * ROWS,
                )
    for tile in range(begin_tile, end_tile):
        for i in range(length[tile]):
            for r in range(ROWS):
                filter_ = rows[tile * ROWS + r]
                if filter_ >= 0:
                    tap = panel[first[tile] + i] - starts[filter_]
                    if tap < 0:
                        tap += channels
                    if tap < width:
                        dweight[filter_ * width + tap] = products[products_at[tile - begin_tile] + i * ROWS + r]


@parallel_jit
def _contract_weight(groups, dy, x, columns, starts, channels, width, panel, first, length, rows, dweight):
    tiles = len(first)
    if groups > 1:
        for index in prange(groups):
            group = np.int64(index)
            begin, end = group * tiles // groups, (group + 1) * tiles // groups
            _weight_group(begin, end, dy, x, columns, starts, channels, width, panel, first, length, rows, dweight)
    else:
        _weight_group(np.int64(0), tiles, dy, x, columns, starts, channels, width, panel, first, length, rows, dweight)


def contract(x, weight, bias, y, windows, relu=False, scale=None):
    """y (O, M) from x (C, M), weight (O, K) and bias (O,) or None; relu: negative results become 0.

    scale (O,), or None for ones: factors of the rows of weight.
    """
    _run(x, weight, bias, y, windows, windows.tiles(ROWS), False, relu, scale)


def contract_transposed(dy, weight, dx, windows):
    """dx (C, M) from dy (O, M) and weight (O, K)."""
    _run(dy, weight, None, dx, windows, windows.transposed_tiles(ROWS), True)


def _run(source, weight, bias, y, windows, tiles, transposed, relu=False, scale=None):
    columns = source.shape[1]
    weight = weight.reshape(-1)
    _contract(
        groups_of(tiles, columns),
        source.reshape(-1),
        columns,
        weight,
        weight[:0] if scale is None else scale,
        windows.starts,
        windows.in_channels,
        windows.width,
        transposed,
        tiles.panel,
        tiles.first,
        tiles.length,
        tiles.rows.reshape(-1),
        weight[:0] if bias is None else bias,
        lowest(y.dtype, relu),
        y.reshape(-1),
    )


def contract_weight(dy, x, dweight, windows):
    """dweight (O, K) = the entries of dy x^T inside the windows; dy (O, M), x (C, M)."""
    tiles = windows.tiles(ROWS)
    columns = x.shape[1]
    _contract_weight(
        min(groups_of(tiles, columns), tiles.count),
        dy.reshape(-1),
        x.reshape(-1),
        columns,
        windows.starts,
        windows.in_channels,
        windows.width,
        tiles.panel,
        tiles.first,
        tiles.length,
        tiles.rows.reshape(-1),
        dweight.reshape(-1),
    )


def groups_of(tiles, columns):
    """How many threads share the columns: one where there is little to do."""
    return get_num_threads() if tiles.reads * ROWS * columns >= _PARALLEL_MACS else 1
