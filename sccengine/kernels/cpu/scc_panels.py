"""Packing of what the microkernels of the channel-window contraction read: weights by tile, and rows side by side."""

import numpy as np

from sccengine.kernels.cpu.compile import jit
from sccengine.kernels.cpu.scc_microkernels import ROWS, copy_vectors


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
def pack_row(source, start, count, lanes, packed, at):
    """Copy ``count`` columns of one source row to packed[at:], and zeros up to a whole vector."""
    whole = count // lanes * lanes
    copy_vectors(source, start, packed, at, count // lanes)
    if whole < count:
        for j in range(whole, count):
            packed[at + j] = source[start + j]
        for j in range(count, whole + lanes):
            packed[at + j] = source.dtype.type(0)


@jit
def packed_offsets(length, unit):
    """Where each tile's packed values begin, and after the last their number; lengths rounded up to ``unit``."""
    offsets = np.zeros(len(length) + 1, np.int64)
    for tile in range(len(length)):
        offsets[tile + 1] = offsets[tile] + (length[tile] + unit - 1) // unit * unit * ROWS
    return offsets
