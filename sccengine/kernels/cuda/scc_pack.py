"""The weights of a contraction as dense panels, packed in the order in which tensor cores take them.

    W(row, d) = weight[f,tap] where tap = (c - start[f]) mod C is below K, else 0

joins row `row` of a tile (windows.tiles: a filter f; transposed: a channel c) and row d of the panel that the tile
reads. A tile's panel is cut into slabs of `depth` rows, the last one filled up with zeros. A slab of W is tile x depth,
rounded once, here, and cut into pieces of 16 rows x 8 (TF32) or x 16 (bf16), which serve two mma. A piece lies as 32
lanes x 4 words, so that a lane gets its share by one 16-byte load without bank conflicts, and a slab is copied as it
lies, whatever K is.

The word `part` of lane 4 r + q of a piece holds row r + 8 (part / 2) and

    TF32    d = q + 4 (part % 2)                                                  of the piece's 8
    bf16    d = q + 8 (part % 2) in the low half, 4 more in the high half         of the piece's 16
    TF32x3  two pieces of TF32: the numbers rounded, and after it what rounding took from them, rounded

For bf16 that is not the order in which PTX numbers the columns. It need not be: the sum over d does not care in which
order both operands name it, and in this one a lane takes the same rows of the other operand for both types.

Moved: 4 O K bytes in, the same (TF32), twice (TF32x3) or half (bf16) of it out, zeros beside; less than a launch costs.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import cuda, types

from sccengine.kernels.cuda import launch
from sccengine.kernels.cuda.indexing import quotient
from sccengine.kernels.cuda.intrinsics import from_bits, load, pack_bf16, store, to_tf32
from sccengine.kernels.cuda.scc_tensor_split import KEPT, split_tf32
from sccengine.kernels.cuda.scc_window import tap_of

int32 = types.int32

# Words of a piece.
PIECE = 128
# What the operands are made into, and how many words two numbers of W take then.
TF32, BF16, TF32X3 = "tf32", "bf16", "tf32x3"
_WORDS_OF_TWO = {TF32: 2, BF16: 1, TF32X3: 4}
# What stands for the rest of a number that has none, as a share of the number: too small to count.
TINY = np.float32(2.0**-30)


class Panels(NamedTuple):
    """How the weights of one problem are cut into slabs."""

    rows: np.ndarray  # (tiles, tile): the rows of the result that a tile makes, -1 where it is not full
    begin: np.ndarray  # (tiles + 1,): tile t has the slabs begin[t] to begin[t + 1]
    tile_of: np.ndarray  # (slabs,)
    sources: np.ndarray  # (slabs, depth): the rows that a slab reads, -1 past the end of the tile's panel


@lru_cache(maxsize=1024)
def panels_of(windows, transposed, tile, depth):
    """The Panels of a ChannelWindows (transposed: of the contraction that makes dx)."""
    tiles = windows.transposed_tiles(tile) if transposed else windows.tiles(tile)
    # Channels that no filter reads make a tile without a panel: one slab of zeros, so that it is written, too.
    slabs = np.maximum(1, -(-tiles.length // depth))
    begin = np.concatenate([[0], np.cumsum(slabs)])
    tile_of = np.repeat(np.arange(tiles.count), slabs)
    position = (np.arange(len(tile_of)) - begin[tile_of])[:, None] * depth + np.arange(depth)
    inside = position < tiles.length[tile_of, None]
    sources = np.where(inside, tiles.panel[np.where(inside, tiles.first[tile_of, None] + position, 0)], -1)
    return Panels(tiles.rows, *(each.astype(np.int32) for each in (begin, tile_of, sources)))


def slab_words(tile, depth, operands):
    """float32 words of a packed slab."""
    return tile * depth // 2 * _WORDS_OF_TWO[operands]


@lru_cache(maxsize=1024)
def tables_of(windows, transposed, tile, depth):
    """Of each slab the rows of the result (slabs, tile), of the source (slabs, depth), and the starts of the filters.

    The filters are the former; transposed: the latter. What a kernel looks up for a weight does not depend on what it
    looked up before: memory answers once, not three times in a row.
    """
    panels = panels_of(windows, transposed, tile, depth)
    rows = panels.rows[panels.tile_of]
    starts = windows.starts[np.maximum(panels.sources if transposed else rows, 0)]
    return tuple(np.ascontiguousarray(each, np.int32) for each in (rows, panels.sources, starts))


@cuda.jit(device=True)
def entry(weight, row, d, start, transposed, C, K):
    """W between row `row` of the result and row `d` of the source; zero where either is -1.

    start: where the window begins of the one of them that is a filter.
    """
    f, c = (d, row) if transposed else (row, d)
    tap = int32(tap_of(start, c, C))
    return load(weight, int32(f * K + tap)) if f >= 0 and c >= 0 and tap < K else weight.dtype.type(0)


@cuda.jit
def pack_v1(
    weight,  # (O, K)
    rows,  # (slabs, tile), and
    sources,  # (slabs, depth), and
    starts,  # (slabs, tile), transposed: (slabs, depth), as tables_of has them
    packed,  # (slabs, words)
    transposed,
    bf16,
    pieces,  # how many pieces hold the same numbers: 2 for TF32x3
    tile,
    depth,
    words,
    C,
    K,
):
    slab = int32(cuda.blockIdx.x)
    steps = int32(depth >> (4 if bf16 else 3))
    word = int32(cuda.blockIdx.y * launch.BLOCK + cuda.threadIdx.x)
    if word >= words:
        return
    r = word >> 4 & 7
    q = word >> 2 & 3
    high = word & 1
    piece = quotient(word >> 7, pieces)
    strip = quotient(piece, steps)
    step = piece - strip * steps
    row_at = int32(slab * tile + strip * 16 + r + 8 * (word >> 1 & 1))
    d_at = int32(slab * depth + (16 * step + 8 * high if bf16 else 8 * step + 4 * high) + q)
    row, d = load(rows, row_at), load(sources, d_at)
    start = load(starts, d_at if transposed else row_at)
    value = entry(weight, row, d, start, transposed, C, K)
    if bf16:
        d = load(sources, int32(d_at + 4))
        start = load(starts, int32(d_at + 4)) if transposed else start
        bits = pack_bf16(value, entry(weight, row, d, start, transposed, C, K))
    elif pieces == 1:
        bits = to_tf32(value)
    else:
        bits, rest = split_tf32(value)
        if (word >> 7) - piece * pieces != 0:
            # An infinite x times a rest of zero would be NaN.
            bits = rest if rest & KEPT != 0 else to_tf32(value * TINY)
    store(packed, int32(slab * words + word), from_bits(bits))


def pack(weight, windows, transposed, tile, depth, operands):
    """The packed weights (slabs, words) of weight (O, K) float32, as `panels_of` cuts them."""
    tables = tables_of(windows, transposed, tile, depth)
    slabs, words = len(tables[0]), slab_words(tile, depth, operands)
    packed = launch.empty((slabs, words), like=weight)
    formats = operands == BF16, 2 if operands == TF32X3 else 1
    sizes = transposed, *formats, tile, depth, words, windows.in_channels, windows.width
    grid = slabs, launch.divide_up(words, launch.BLOCK)
    launch.blocks(pack_v1, grid, launch.BLOCK, weight, *[launch.table(each, weight) for each in tables], packed, *sizes)
    return packed


COMPILE = [launch.Build(pack_v1, "FIIIFiiiiiiii", dtypes=("float32",), since=(8, 0))]
