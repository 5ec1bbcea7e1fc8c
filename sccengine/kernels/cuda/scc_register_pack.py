"""The weights of a contraction as dense panels for the register-tiled kernels.

    packed[slab, d, row] = W(row, d of the slab), zero outside windows and past the end of a tile's panel

with W, tiles and slabs as in scc_pack.py. A slab of `depth` steps of a tile's panel is one piece of depth * tile
elements, in the order in which it goes to shared memory: the kernel loads it 16 bytes a thread, without an index.

Without packing, each of a slab's elements costs the kernel an addition, a wrap, two comparisons and an address: some 24
instructions a thread and slab, and 12 registers of 128. Packing moves O*K elements in and out, zeros beside, which
takes less than a launch.
"""

from functools import lru_cache

import numpy as np
from numba import cuda, types

from sccengine.kernels.cuda import launch
from sccengine.kernels.cuda.indexing import quotient
from sccengine.kernels.cuda.intrinsics import load, store
from sccengine.kernels.cuda.scc_pack import entry, panels_of, tables_of

int32 = types.int32


@cuda.jit
def pack_v1(
    weight,  # (O, K)
    rows,  # (slabs, tile), and
    sources,  # (slabs, depth), and
    starts,  # (slabs, tile), transposed: (slabs, depth), as tables_of has them
    packed,  # (slabs, depth, tile)
    transposed,
    tile,
    depth,
    C,
    K,
):
    slab = int32(cuda.blockIdx.x)
    e = int32(cuda.blockIdx.y * launch.BLOCK + cuda.threadIdx.x)
    if e < tile * depth:
        d = quotient(e, tile)
        row_at = int32(slab * tile + e - d * tile)
        d_at = int32(slab * depth + d)
        start = load(starts, d_at if transposed else row_at)
        value = entry(weight, load(rows, row_at), load(sources, d_at), start, transposed, C, K)
        store(packed, int32(slab * tile * depth + e), value)


@lru_cache(maxsize=1024)
def reads_of(windows, transposed, tile, depth):
    """int32 (slabs + 1, depth): the rows of the source to read for each slab.

    Past the end of a panel, where packed weights are zero, it is a row that the slab reads anyway, or the first one of
    all where the panel is empty; one more slab is there for a kernel that looks up its next rows before it knows that
    it has come to the end.
    """
    sources = panels_of(windows, transposed, tile, depth).sources
    first = np.maximum(sources[:, :1], 0)
    return np.concatenate([np.where(sources < 0, first, sources), first[-1:].repeat(depth, axis=1)])


@lru_cache(maxsize=1024)
def busy_of(windows, transposed, tile, depth, strip):
    """int32 (slabs + 1,): bit s where rows s * strip to (s + 1) * strip of the tile have weights in the slab."""
    panels = panels_of(windows, transposed, tile, depth)
    mask = windows.mask().T if transposed else windows.mask()
    bits = 1 << np.arange(tile // strip)
    busy = []
    for rows, begin, end in zip(panels.rows, panels.begin, panels.begin[1:]):
        sources = panels.sources[begin:end].ravel()
        joined = mask[rows[:, None], sources] & (rows >= 0)[:, None] & (sources >= 0)
        busy.append(bits @ joined.reshape(tile // strip, strip, -1, depth).any(axis=(1, 3)))
    return np.concatenate([*busy, [0]]).astype(np.int32)


def pack(weight, windows, transposed, tile, depth):
    """The packed weights (slabs, depth, tile) of weight (O, K), as `panels_of` cuts them."""
    tables = tables_of(windows, transposed, tile, depth)
    slabs = len(tables[0])
    packed = launch.empty((slabs, depth, tile), like=weight)
    tables = [launch.table(each, weight) for each in tables]
    sizes = transposed, tile, depth, windows.in_channels, windows.width
    grid = slabs, launch.divide_up(tile * depth, launch.BLOCK)
    launch.blocks(pack_v1, grid, launch.BLOCK, weight, *tables, packed, *sizes)
    return packed


COMPILE = [launch.Build(pack_v1, "FIIIFiiiii", dtypes=("float32",))]
