"""The channel-window contraction over tiles of sorted windows: the engine's default on the CPU.

Filters sorted by the start of their window are cut into tiles, tall or flat ones, whichever fill in fewer zeros; a tile
reads the union of its windows once, weights outside a filter's window being zero (``windows.Tiles``). The gradient of
the input is the same contraction with channels for filters (``windows.transposed_tiles``), so one kernel serves both:

    forward     y (O, M)  = W x          W[f, c] = weight[f, (c - start[f]) mod C] where that tap is below K, else 0
    transposed  dx (C, M) = W^T dy

and scc_tiles_backward.py takes all gradients from the same tiles. (0 * inf is NaN: an infinity or a NaN in a channel
spoils all filters of a tile that reads it, also those whose own window does not.)

Nothing of the size of a gathered window is ever stored:

* the weights of a tile are packed so that those of one panel row stand side by side (at most W's nonzeros, padded);
* source rows are read where they lie, a strip of columns at a time. But the rows of a strip are packed into one small
  panel where the last columns of a row fill no vector, and where many tiles read a row and vectors are shorter than a
  cache line or M is such that the rows of a window drive each other from the cache (by a power of two: 2.5 times as
  slow with 512 channels and M = 8192 as when packed);
* the microkernel (scc_microkernels.py) keeps a whole tile in registers over the whole window.

Where there are but a few columns, the forward is not worth packing weights for, and scc_columns.py takes it.

Work is shared out by blocks of columns; every sum is taken by one thread in one order, so the bits do not depend on the
number of threads.
"""

from functools import lru_cache

import numpy as np
from numba import prange

from sccengine.kernels.cpu import scc_columns
from sccengine.kernels.cpu.compile import jit, parallel_jit
from sccengine.kernels.cpu.scc_microkernels import (
    FLAT_ROWS,
    FLAT_VECTORS,
    ROWS,
    VECTORS,
    copy_vectors,
    flat_tile_1,
    flat_tile_2,
    flat_tile_6,
    outer_tile_1,
    outer_tile_2,
    outer_tile_3,
)
from sccengine.kernels.cpu.scc_panels import pack_row, pack_weights, packed_offsets, row_begins, tile_size
from sccengine.kernels.cpu.shares import even_part, scratch, share_count, share_of
from sccengine.kernels.cpu.simd import VECTOR_BYTES, lowest

#: Multiply-accumulates below which waking a second thread costs more than it saves.
PARALLEL_MACS = 1 << 21
# How much longer flat tiles take for the same work: they load more for it, which costs up to a quarter where a
# processor multiplies two vectors of 64 bytes a cycle, and little where it multiplies one.
_FLAT_COST = 1.15
# Elements and blocks of columns that a strip of the forward takes at once: long runs of a row, within half a cache.
_STRIP_ELEMENTS = 1 << 17
_STRIP_BLOCKS = 32
# How many tiles may read a row that is not packed (see above): one that its neighbours crowd out of the cache, and
# any other.
_CROWDED_READS, _UNPACKED_READS = (2, 2) if VECTOR_BYTES < 64 else (8, np.inf)
# Addresses so far apart share the lines of a second-level cache, of which there are so many at most: 1 MB in 8 ways or
# 2 MB in 16, mostly.
_WAY_BYTES, _WAYS = 1 << 17, 16


@jit
def pack_panel(source, columns, column, count, panel, begin, end, stride, packed):
    """``count`` columns of the rows begin to end of a panel, in which the first rows may come again after the last."""
    distinct = len(source) // columns
    lanes = VECTOR_BYTES // source.itemsize
    for i in range(begin, end):
        if i < distinct + begin:
            pack_row(source, np.int64(panel[i]) * columns + column, count, packed, i * stride)
        else:
            copy_vectors(packed, (i - distinct) * stride, packed, i * stride, (count + lanes - 1) // lanes)


@jit
def contract_panel(
    begin_tile,
    end_tile,
    count,  # columns
    panel,  # the rows: columns of row i
    panel_at,
    begins,  # (P,) from begins[i] + panel_at on
    packed,  # W, as pack_weights lays it out
    packed_at,  # (T,) where each tile of it begins
    first,  # (T,) the rows that each tile reads
    length,
    rows,  # (T, size) flat, and those it writes
    bias,  # (R,) or empty
    floor,  # 0 for ReLU, -inf for none
    y,  # (R, y_columns) flat
    y_columns,
    y_at,
):
    """Columns y_at to y_at + count of y, tile by tile; of tall tiles or of flat ones."""
    size = tile_size(rows, first)
    lanes = VECTOR_BYTES // y.itemsize
    whole = count // lanes * lanes
    for tile in range(begin_tile, end_tile):
        source = panel, panel_at, begins, np.int64(first[tile]), packed, packed_at[tile], np.int64(length[tile])
        _outer_tiles(size, whole // lanes, lanes, *source, y, rows, tile * size, y_columns, y_at, bias, floor)
    if whole < count:
        _contract_tail(
            begin_tile,
            end_tile,
            whole,
            count,
            panel,
            panel_at,
            begins,
            packed,
            packed_at,
            first,
            length,
            rows,
            bias,
            floor,
            y,
            y_columns,
            y_at,
        )


@jit
def _outer_tiles(size, vectors, *problem):
    """One tile of ``size`` rows over so many vectors of columns; after ``vectors`` the arguments of _tall_tiles."""
    if size == ROWS:
        _tall_tiles(vectors, *problem)
    else:
        _flat_tiles(vectors, *problem)


@jit
def _tall_tiles(
    vectors, lanes, panel, begin, begins, first, packed, packed_at, depth, y, rows, rows_at, y_columns, at, bias, floor
):
    """A tall tile of rows over so many vectors of columns: by threes, but four that are left two and two."""
    weights = begins, first, packed, packed_at, depth
    target, result = (y, rows, rows_at, y_columns), (bias, floor)
    twos = (-vectors) % 3 if vectors > 1 else 0
    threes = max(vectors - 2 * twos, 0) // 3
    if threes:
        outer_tile_3(panel, begin, *weights, *target, at, threes, *result)
    if twos:
        done = 3 * threes * lanes
        outer_tile_2(panel, begin + done, *weights, *target, at + done, twos, *result)
    if vectors == 1:
        outer_tile_1(panel, begin, *weights, *target, at, 1, *result)


@jit
def _flat_tiles(
    vectors, lanes, panel, begin, begins, first, packed, packed_at, depth, y, rows, rows_at, y_columns, at, bias, floor
):
    """A flat tile of rows over so many vectors of columns."""
    weights = begins, first, packed, packed_at, depth
    target, result = (y, rows, rows_at, y_columns), (bias, floor)
    widest = vectors // FLAT_VECTORS
    if widest:
        flat_tile_6(panel, begin, *weights, *target, at, widest, *result)
    done = widest * FLAT_VECTORS
    twos = (vectors - done) // 2
    if twos:
        flat_tile_2(panel, begin + done * lanes, *weights, *target, at + done * lanes, twos, *result)
        done += 2 * twos
    if done < vectors:
        flat_tile_1(panel, begin + done * lanes, *weights, *target, at + done * lanes, 1, *result)


@jit
def _contract_tail(
    begin_tile,
    end_tile,
    begin,  # of the columns that fill no whole vector,
    end,
    panel,
    panel_at,
    begins,
    packed,
    packed_at,
    first,
    length,
    rows,
    bias,
    floor,
    y,
    y_columns,
    y_at,
):
    """The last columns: a vector of each tile is computed aside, and what belongs to y copied."""
    lanes = VECTOR_BYTES // y.itemsize
    size = tile_size(rows, first)
    zero, one = np.int64(0), np.int64(1)  # a literal is a type of its own: helpers would be compiled for it, too
    aside, aside_rows, aside_bias = np.empty(size * lanes, y.dtype), np.arange(size).astype(np.int32), bias[:0]
    if len(bias):
        aside_bias = np.zeros(size, y.dtype)
    for tile in range(begin_tile, end_tile):
        at, depth = packed_at[tile], np.int64(length[tile])
        for r in range(len(aside_bias)):
            aside_bias[r] = bias[max(rows[tile * size + r], 0)]
        source = panel, panel_at + begin, begins, np.int64(first[tile])
        target = aside, aside_rows, zero, lanes, zero, aside_bias, floor
        _outer_tiles(size, one, lanes, *source, packed, at, depth, *target)
        for r in range(size):
            row = np.int64(rows[tile * size + r])
            if row >= 0:
                for j in range(end - begin):
                    y[row * y_columns + y_at + begin + j] = aside[r * lanes + j]


@jit
def _is_crowded(columns, itemsize, rows):
    """Whether more of so many neighbouring rows begin on the same lines of a cache than it has room for."""
    pitch = columns * itemsize
    apart = min(pitch & -pitch, _WAY_BYTES)  # the bytes between one place where rows may begin and the next
    return rows * apart > _WAYS * _WAY_BYTES


@jit
def contract_group(
    begin,  # columns of the source
    end,
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
    """Columns begin to end, a strip at a time: pack the strip's panel if need be, then run the microkernel by tiles."""
    lanes = VECTOR_BYTES // source.itemsize
    block = VECTORS * lanes
    most = min(max(_STRIP_ELEMENTS // (len(panel) * block), 1), _STRIP_BLOCKS) * block
    strip = even_part(end - begin, most, lanes)
    stride = strip + lanes  # one vector more, so that rows fall on different cache lines
    tiles = packed, packed_at, first, length, rows, bias, floor, y, y_columns
    zero = np.int64(0)
    reads = length.sum() / (len(source) // columns)
    limit = _CROWDED_READS if _is_crowded(columns, source.itemsize, length.max()) else _UNPACKED_READS
    packs = columns % lanes > 0 or reads > limit
    begins = row_begins(panel, len(panel), 0, packs, stride, columns)
    panel_rows = scratch(len(panel) * stride, source.dtype) if packs else source
    for column in range(begin, end, strip):
        count = min(strip, end - column)
        if packs:
            pack_panel(source, columns, column, count, panel, zero, len(panel), stride, panel_rows)
        at = zero if packs else column
        contract_panel(zero, len(first), count, panel_rows, at, begins, *tiles, y_at + column)


@parallel_jit
def _contract(
    groups,  # of columns, one a thread
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
    rows,  # (T, size) flat, and what it writes
    bias,  # (R,) or empty
    floor,  # 0 for ReLU, -inf for none
    y,  # (R, M) flat
):
    packed_at = packed_offsets(length, np.int64(1), tile_size(rows, first))
    packed = np.empty(packed_at[-1], source.dtype)
    windows = (starts, channels, width, transposed)
    tiles = (panel, first, length, rows)
    result = (bias, floor, y, columns, np.int64(0))
    lanes = VECTOR_BYTES // source.itemsize
    for index in prange(len(first)):
        tile = np.int64(index)
        pack_weights(tile, weight, scale, *windows, *tiles, packed, packed_at[tile])
    for index in prange(groups):
        group = np.int64(index)
        begin, end = share_of(group, groups, lanes, columns)
        contract_group(begin, end, source, columns, *tiles, packed, packed_at, *result)


def contract(x, weight, bias, y, windows, relu=False, scale=None):
    """y (O, M) from x (C, M), weight (O, K) and bias (O,) or None; relu: negative results become 0.

    scale (O,), or None for ones: factors of the rows of weight.
    """
    if scc_columns.serves(x):
        scc_columns.contract(x, weight, bias, y, windows, lowest(y.dtype, relu), scale)
    else:
        _run(x, weight, bias, y, windows, tiles_of(windows), False, relu, scale)


def contract_transposed(dy, weight, dx, windows):
    """dx (C, M) from dy (O, M) and weight (O, K)."""
    _run(dy, weight, None, dx, windows, transposed_tiles_of(windows), True)


def _run(source, weight, bias, y, windows, tiles, transposed, relu=False, scale=None):
    columns = source.shape[1]
    weight = weight.reshape(-1)
    parallel = is_large(tiles, columns)
    _contract(
        share_count(parallel),
        source.reshape(-1),
        columns,
        weight,
        weight[:0] if scale is None else scale,
        windows.starts,
        windows.in_channels,
        windows.width,
        transposed,
        *tiles.tables,
        weight[:0] if bias is None else bias,
        lowest(y.dtype, relu),
        y.reshape(-1),
        parallel=parallel,
    )


def is_large(tiles, columns):
    """Whether there is so much to do that several threads should share the columns."""
    return tiles.reads * tiles.size * columns >= PARALLEL_MACS


@lru_cache(maxsize=1024)
def tiles_of(windows):
    """Tiles of the filters: tall ones, but flat ones where those multiply by fewer zeros."""
    return _of_less_work(windows.tiles(ROWS), windows.tiles(FLAT_ROWS))


@lru_cache(maxsize=1024)
def transposed_tiles_of(windows):
    """The same of the input channels."""
    return _of_less_work(windows.transposed_tiles(ROWS), windows.transposed_tiles(FLAT_ROWS))


def _of_less_work(tall, flat):
    return flat if flat.reads * flat.size * _FLAT_COST < tall.reads * tall.size else tall
