"""What kernels around the contraction's microkernels share: packing weights by tile, and rows side by side."""

import numpy as np

from sccengine.kernels.cpu.compile import jit
from sccengine.kernels.cpu.scc_interleave import copy_taps_flat, copy_taps_tall, interleave_flat, interleave_tall
from sccengine.kernels.cpu.scc_microkernels import ROWS, copy_vectors
from sccengine.kernels.cpu.simd import VECTOR_BYTES


@jit
def tile_size(rows, first):
    """How many rows a tile has."""
    return len(rows) // max(len(first), 1)


@jit
def pack_weights(tile, weight, scale, starts, channels, width, transposed, panel, first, length, rows, packed, at):
    """Write W's entries of one tile to packed[at:], as many values a panel row as the tile has rows.

    scale (O,), or empty: factors of the filters, for a tile of filters.
    """
    # Unsigned indices: a signed one would be tested for counting from the end, which costs more than the copy.
    if transposed:
        _pack_channels(tile, weight, starts, channels, width, panel, first, length, rows, packed, at)
    else:
        _pack_filters(tile, weight, scale, starts, channels, width, panel, first, length, rows, packed, at)


@jit
def window_begin(filter_, tile, starts, channels, panel, first):
    """Where a filter's window begins among the panel rows of its tile."""
    begin = np.int64(starts[filter_]) - panel[first[tile]]
    return begin + channels if begin < 0 else begin


@jit
def _pack_filters(tile, weight, scale, starts, channels, width, panel, first, length, rows, packed, at):
    """The rows are filters: the taps of each lie one panel row apart from where its window begins."""
    size = tile_size(rows, first)
    done = np.int64(0)  # taps of all rows
    if length[tile] == width and _share_window(rows, tile * size, (tile + 1) * size, starts, panel[first[tile]]):
        done = _pack_whole(tile, size, weight, scale, width, rows, packed, at)
    else:
        for j in range(np.int64(length[tile]) * size):
            packed[np.uint64(at + j)] = 0
    for r in range(size):
        row = np.int64(rows[tile * size + r])
        if row < 0:
            continue
        begin = window_begin(row, tile, starts, channels, panel, first)
        source = row * width
        target = at + r + begin * size
        before_wrap = min(width, channels - begin)
        factor = scale[row] if len(scale) else weight.dtype.type(1)
        for tap in range(done, before_wrap):
            packed[np.uint64(target + tap * size)] = weight[np.uint64(source + tap)] * factor
        for tap in range(max(done, before_wrap), width):
            packed[np.uint64(target + (tap - channels) * size)] = weight[np.uint64(source + tap)] * factor


@jit
def _share_window(rows, begin, end, starts, start):
    """Whether rows[begin:end] are filters, all of them, whose windows begin at ``start``."""
    for i in range(begin, end):
        if rows[i] < 0 or starts[rows[i]] != start:
            return False
    return True


@jit
def _pack_whole(tile, size, weight, scale, width, rows, packed, at):
    """Pack as many taps of such a tile as come in blocks of its size; give their number."""
    blocks = width // size
    if size == ROWS:
        interleave_tall(weight, rows, tile * size, width, scale, packed, at, blocks)
    else:
        interleave_flat(weight, rows, tile * size, width, scale, packed, at, blocks)
    return blocks * size


@jit
def _pack_channels(tile, weight, starts, channels, width, panel, first, length, rows, packed, at):
    """The rows are neighbouring channels: a filter of the panel reads them with neighbouring taps."""
    size = tile_size(rows, first)
    channel = np.int64(rows[tile * size])
    full = rows[tile * size + size - 1] >= 0
    for i in range(length[tile]):
        filter_ = np.int64(panel[first[tile] + i])
        tap = channel - starts[filter_]
        if tap < 0:
            tap += channels
        source = filter_ * width
        target = at + i * size
        if full and tap + size <= width:
            if size == ROWS:
                copy_taps_tall(weight, source + tap, packed, target)
            else:
                copy_taps_flat(weight, source + tap, packed, target)
        else:
            for r in range(size):
                value = weight.dtype.type(0)
                if tap < width and rows[tile * size + r] >= 0:
                    value = weight[np.uint64(source + tap)]
                packed[np.uint64(target + r)] = value
                tap = tap + 1 if tap + 1 < channels else 0


@jit
def copy_run(source, at, count, packed, to):
    """Copy ``count`` numbers of source[at:] to packed[to:]."""
    lanes = VECTOR_BYTES // source.itemsize
    whole = count // lanes
    copy_vectors(source, at, packed, to, whole)
    for i in range(whole * lanes, count):
        packed[np.uint64(to + i)] = source[np.uint64(at + i)]


@jit
def clear_run(packed, begin, end):
    """Zeros in packed[begin:end]."""
    for i in range(begin, end):
        packed[np.uint64(i)] = 0


@jit
def pack_row(source, start, count, packed, at):
    """Copy ``count`` columns of one source row to packed[at:], and zeros up to a whole vector."""
    lanes = VECTOR_BYTES // source.itemsize
    copy_run(source, start, count, packed, at)
    clear_run(packed, at + count, at + count + (-count) % lanes)


@jit
def row_begins(panel, end, more, packed, stride, columns):
    """Where each row of a panel begins: packed, ``stride`` apart, or in the source, ``columns`` apart.

    Rows from ``end`` on, and ``more`` than the panel has, begin where the last one before does: tiles may read them.
    """
    begins = np.empty(len(panel) + more, np.int64)
    for i in range(len(begins)):
        row = max(min(i, end - 1), 0)
        begins[i] = row * stride if packed else np.int64(panel[row]) * columns
    return begins


@jit
def packed_offsets(length, unit, size):
    """Where each tile's packed values begin, ``size`` a panel row, and after the last their number; lengths rounded up
    to ``unit``."""
    offsets = np.zeros(len(length) + 1, np.int64)
    for tile in range(len(length)):
        offsets[tile + 1] = offsets[tile] + (length[tile] + unit - 1) // unit * unit * size
    return offsets
