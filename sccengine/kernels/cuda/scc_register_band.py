"""The gradient of the contraction's weights in float32, with the sums of a tile in registers.

    dweight[f,tap] = sum_m dy[f,m] * x[c,m]        c = (start[f] + tap) mod C

dy (O, M), x (C, M), M = H*W*N: both rows run along the sum. A block makes a tile of filters (windows.tiles) x `columns`
rows of the panel of channels that they read, over one span of m, and stores the entries inside the windows: a band. In
shared memory a slab is turned over, [m, row], so that the product is that of scc_register_tiles.py; rows lie tile + 4
apart there, which puts the 16 rows x 2 vectors that a warp turns over at once into 32 different banks.

A warp none of whose entries lies inside the windows only helps to load.

The sum over m is long and the band small, so m is cut into spans, a number that depends on the problem only. The spans'
bands are added in order by a second kernel (scc_register_sums.py).

Floor on an H200: the larger of 2 O K M / 67 TFLOP/s and 4 (C + O) M bytes / 4.8 TB/s; the bands move 8 spans O K bytes
beside it, through the second-level cache.
"""

from functools import cache

import numpy as np
from numba import cuda, types

from sccengine.kernels.cuda import launch
from sccengine.kernels.cuda.arguments import many_rows
from sccengine.kernels.cuda.intrinsics import ALIGNMENT, load, load4, store
from sccengine.kernels.cuda.scc_register_shape import (
    COLUMN_STEP,
    LANE_COLUMNS,
    LANE_ROWS,
    ROW_STEP,
    WARP,
    Shape,
    column_in_warp,
    done_of,
    multiplication,
    row_in_warp,
)
from sccengine.kernels.cuda.scc_register_sums import add_spans, sums_of
from sccengine.kernels.cuda.scc_window import tap_of
from sccengine.kernels.cuda.unroll import unrolled
from sccengine.kernels.cuda.vectors import rows_aligned

float32 = types.float32
int32 = types.int32
int64 = types.int64
uint32 = types.uint32

# Filters x channels of a tile: 128 x 128 and 64 x 64, in the simulator 16 x 16 by many threads and by few.
WIDE, NARROW = (
    (Shape(2, 2, 4, 4, 8), Shape(1, 1, 8, 8, 8)) if launch.SIMULATED else (Shape(4, 2, 8, 8, 8), Shape(2, 2, 8, 4, 16))
)
# By the name of the variant.
SHAPES = {"register_tiles_128x128": WIDE, "register_tiles_64x128": NARROW, "register_tiles_32x128": NARROW}
# Instructions that a multiply-add costs, itself and its share of the rest of the loop, in the machine code for 9.0.
INSTRUCTIONS = {WIDE: 1.2, NARROW: 1.37}
# Blocks that a launch should have, if the problem has them: 16 warps for each of 132 multiprocessors.
WANTED_BLOCKS = {WIDE: 2 * 132, NARROW: 4 * 132}
# A span has at least so many columns.
LEAST_SPAN = 16 if launch.SIMULATED else 256


@cuda.jit(device=True)
def fetch_vector(values, slot, source, at, m, end, vectors):
    """values[slot] = four elements of the row that begins at `at`, from column m on; zero from column `end` on."""
    if vectors:
        if m < end:
            values[slot, 0], values[slot, 1], values[slot, 2], values[slot, 3] = load4(source, at + m)
        else:
            for e in range(4):
                values[slot, e] = float32(0)
    else:
        for e in range(4):
            values[slot, e] = load(source, at + m + e) if int32(m + e) < end else float32(0)


def _band(shape):
    """The kernel of one tile shape."""
    tile, columns, depth, threads = shape.tile, shape.columns, shape.depth, shape.threads
    thread_rows, thread_columns, warp_columns = shape.thread_rows, shape.thread_columns, shape.warp_columns
    warp_height, warp_width = LANE_ROWS * thread_rows, LANE_COLUMNS * thread_columns
    left_pitch, right_pitch = tile + 4, columns + 4
    left_size = depth * left_pitch
    stage = left_size + depth * right_pitch
    memory = 2 * stage
    # Two neighbouring threads bring 8 neighbouring elements of a row; a thread brings `passes` vectors of each row.
    passes = depth // 8
    row_stride = threads // 2
    left_rows, right_rows = tile // row_stride, columns // row_stride
    multiply = multiplication(shape, left_pitch, right_pitch)

    @unrolled
    def band(
        dy,  # (O, M)
        x,  # (C, M)
        starts,  # (O,)
        rows,  # (tiles, tile): the filters of a tile, -1 where it is not full
        panel,  # channels
        first,  # (tiles,): a tile's filters read panel[first : first + length]
        length,  # (tiles,)
        busy,  # (tiles, blocks of columns): bit w where warp w has entries inside the windows
        sums,  # (spans, O, K)
        vectors,  # whether rows of dy and x can be read 16 bytes at a time
        span,  # columns that one block adds up: a multiple of `depth`
        O,
        C,
        K,
        M,
    ):
        t = int32(cuda.blockIdx.y)
        p0 = int32(cuda.blockIdx.x * columns)
        reads = load(length, t)
        if p0 >= reads:
            return
        shared = cuda.shared.array(memory, float32, ALIGNMENT)
        total = cuda.local.array((thread_rows, thread_columns), float32)
        left_values = cuda.local.array((left_rows * passes, 4), float32)
        right_values = cuda.local.array((right_rows * passes, 4), float32)
        left_at = cuda.local.array(left_rows, int64)
        right_at = cuda.local.array(right_rows, int64)
        for i in range(thread_rows):
            for j in range(thread_columns):
                total[i, j] = float32(0)

        # What this thread brings to each slab. Rows past the end are the last ones again: nobody stores their sums.
        thread = int32(cuda.threadIdx.x)
        line = int32(thread >> 1)
        along = int32((thread & 1) * 4)
        begin = load(first, t)
        for v in range(left_rows):
            left_at[v] = int64(max(load(rows, int32(t * tile + line + v * row_stride)), int32(0))) * M
        for v in range(right_rows):
            p = int32(min(int32(p0 + line + v * row_stride), int32(reads - 1)))
            right_at[v] = int64(load(panel, int32(begin + p))) * M

        # Where this thread's rows and columns begin in shared memory, and where it puts what it brings.
        warp = int32(uint32(thread) // uint32(WARP))
        row = int32(int32(uint32(warp) // uint32(warp_columns)) * warp_height + row_in_warp(thread))
        column = int32(int32(uint32(warp) % uint32(warp_columns)) * warp_width + column_in_warp(thread))

        works = load(busy, int32(t * cuda.gridDim.x + cuda.blockIdx.x)) >> warp & 1
        m = int32(int32(cuda.blockIdx.z) * span)
        end = int32(min(int32(M), int32(m + span)))
        slabs = int32(uint32(end - m + (depth - 1)) // uint32(depth))
        m = int32(m + along)
        step = int32(-1)
        while step < slabs:
            # Slab `step` stands in one half of shared memory and is multiplied; slab `step + 1` comes to the other.
            side = int32((step & 1) * stage)
            fetch = int32(step + 1) < slabs
            if fetch:
                for q in range(passes):
                    here = int32(m + 8 * q)
                    for v in range(left_rows):
                        fetch_vector(left_values, v * passes + q, dy, left_at[v], here, end, vectors)
                    for v in range(right_rows):
                        fetch_vector(right_values, v * passes + q, x, right_at[v], here, end, vectors)
                m = int32(m + depth)
            if works and step >= 0:
                multiply(shared, int32(side + row), int32(side + left_size + column), total)
            if fetch:
                other = int32(stage - side)
                left_to = int32(other + along * left_pitch + line)
                right_to = int32(other + left_size + along * right_pitch + line)
                for q in range(passes):
                    for e in range(4):
                        for v in range(left_rows):
                            at = left_to + ((8 * q + e) * left_pitch + v * row_stride)
                            store(shared, at, left_values[v * passes + q, e])
                        for v in range(right_rows):
                            at = right_to + ((8 * q + e) * right_pitch + v * row_stride)
                            store(shared, at, right_values[v * passes + q, e])
                cuda.syncthreads()
            step = int32(step + 1)

        rows_at = int32(t * tile + row)
        for i in range(thread_rows):
            f = load(rows, rows_at + (i // 4 * ROW_STEP + i % 4))
            if f >= 0:
                start = load(starts, f)
                at = int32((int32(cuda.blockIdx.z) * O + f) * K)
                for j in range(thread_columns):
                    p = int32(p0 + column + (j // 4 * COLUMN_STEP + j % 4))
                    if p < reads:
                        tap = int32(tap_of(start, load(panel, int32(begin + p)), int32(C)))
                        if tap < int32(K):
                            store(sums, int32(at + tap), total[i, j])

    band.__name__ = band.__qualname__ = f"band_{tile}x{columns}"
    return many_rows(cuda.jit(band))


BAND = {shape: _band(shape) for shape in (WIDE, NARROW)}


@cache
def spans_of(windows, shape, columns):
    """How many spans of how many columns: enough for the machine, but none that is hardly worth its band."""
    tiles = windows.tiles(shape.tile)
    blocks = tiles.count * launch.divide_up(int(tiles.length.max()), shape.columns)
    spans = min(WANTED_BLOCKS[shape] // blocks, columns // LEAST_SPAN)
    span = launch.divide_up(launch.divide_up(columns, max(1, spans)), shape.depth) * shape.depth
    return launch.divide_up(columns, span), span


@cache
def busy_of(windows, shape):
    """int32 (tiles, blocks of columns): bit w where warp w of a block has entries inside the windows."""
    tiles = windows.tiles(shape.tile)
    mask = windows.mask()
    blocks = launch.divide_up(int(tiles.length.max()), shape.columns)
    bits = (1 << np.arange(shape.warp_rows * shape.warp_columns)).reshape(shape.warp_rows, shape.warp_columns)
    busy = np.zeros((tiles.count, blocks), np.int32)
    for t, (rows, first, length) in enumerate(zip(tiles.rows, tiles.first, tiles.length)):
        inside = np.zeros((shape.tile, blocks * shape.columns), bool)
        inside[:, :length] = mask[rows[:, None], tiles.panel[first : first + length]] & (rows >= 0)[:, None]
        inside = inside.reshape(shape.warp_rows, shape.strip, blocks, shape.warp_columns, -1).any(axis=(1, 4))
        busy[t] = (inside * bits[:, None, :]).sum(axis=(0, 2))
    return busy


def work(windows, variant, columns):
    """Instructions for multiply-adds, needless ones included, over the part of the machine that works on them."""
    shape = SHAPES[variant]
    blocks = int(np.ceil(windows.tiles(shape.tile).length / shape.columns).sum())
    warps = shape.warp_rows * shape.warp_columns
    done = done_of(busy_of(windows, shape), blocks, warps) * shape.tile * shape.columns / warps
    launched = blocks * spans_of(windows, shape, columns)[0]
    return done * columns * INSTRUCTIONS[shape] / min(1, launched / WANTED_BLOCKS[shape])


def backward_weight(dy, x, dweight, windows, variant):
    """dweight (O, K) from dy (O, M) and x (C, M)."""
    shape = SHAPES[variant]
    tiles = windows.tiles(shape.tile)
    columns = x.shape[1]
    spans, span = spans_of(windows, shape, columns)
    sums = sums_of(spans, dweight)
    tables = windows.starts, tiles.rows, tiles.panel, tiles.first, tiles.length, busy_of(windows, shape)
    launch.blocks(
        BAND[shape],
        (launch.divide_up(int(tiles.length.max()), shape.columns), tiles.count, spans),
        shape.threads,
        dy,
        x,
        *[launch.table(each, x) for each in tables],
        sums,
        rows_aligned(dy, x),
        span,
        windows.out_channels,
        windows.in_channels,
        windows.width,
        columns,
    )
    add_spans(sums, dweight)


COMPILE = [
    launch.Build(
        kernel,
        "FFIIIIIIFiiiiii",
        dtypes=("float32",),
        instructions=("FFMA", "LDS.128", "LDG.E.128", "STS"),
        registers=128,
    )
    for kernel in BAND.values()
]
