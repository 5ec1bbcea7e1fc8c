"""The contraction and its transpose in float32, with the sums of a tile in registers.

    result[row,m] = bias[row] + sum over the rows d of a tile's panel of W(row,d) * source[panel[d],m]   (then ReLU)

as in scc_tiles.py: rows sorted so that the windows of a tile overlap; forward has filters as rows and x as source, dx
channels and dy (windows.transposed_tiles). W comes packed (scc_register_pack.py). source (S, M), result
(R, M), M = H*W*N.

A block makes a tile of rows x `columns` columns of the result (scc_register_shape.py), in slabs of `depth` panel rows.
While a slab in shared memory is being multiplied, the next one is on its way from global memory to registers, and goes
to the other half of shared memory afterwards: one barrier a slab. Nothing in that loop asks where the panel or the row
ends: past the panel's end packed weights are zero, and rows and columns past the end are replaced by the last ones,
whose results nobody stores. Rows of the source are read 16 bytes at a time where every row starts at a multiple of 16
bytes, else element by element to the same places: 6 instructions more a thread and vector.

Which tile is best is a matter of zeros and loads. Useful / possible multiplications, O K / sum(tile * panel rows), of
O = C filters:

    C     cg co         32 rows  64   128          C     cg co         32 rows  64   128
    128   2  0.5        1.00    0.67  0.50         512   2  0.5        1.00    1.00  1.00
    128   2  0.33       0.67    0.50  0.50         512   2  0.33       0.89    0.80  0.67
    128   8  0.5        0.40    0.22  0.12         512   8  0.5        1.00    0.67  0.40
    256   4  0.5        1.00    0.67  0.40         512   4  0.25       1.00    0.80  0.57

A warp has 32 rows of any tile and skips slabs in which they have no weights (`busy`), so what a wider tile does is what
32 rows do; but its warps wait for each other at the barriers, and the others must come from other blocks. A wider tile
loads less: at full rate a multiprocessor asks the second-level cache for 20, 12 or 8 bytes a cycle (W and x), of some
24 that it can have. With few columns there are too few blocks for the machine; the panel is then cut into `splits`
parts, whose partial results are added up in order by a second kernel (scc_register_sums.py). Each of 132
multiprocessors then gets

    15 to 62 warps    SCC layers of 64 to 512 channels with 4 to 17 million numbers a tensor
    8 and more        MobileNet's layers at N = 128, down to 2 x 2 pixels, cut in up to 8
    8                 a linear layer 1024 -> 1000 at N = 1, cut in 16

The loop over a slab on 9.0, 128 x 128: 512 FFMA, 32 LDS.128, 2 LDG.128, 2 STS.128 and some 50 others, 1.16 instructions
for each multiply-add (64 x 128: 1.18).

Floor on an H200: the larger of 2 O K M / 67 TFLOP/s and 4 (C + O) M bytes / 4.8 TB/s: with K = C / cg and O = C the
multiplications are the larger from C = 56 cg on.
"""

from functools import cache

import numpy as np
from numba import cuda, types

from sccengine.kernels.cuda import launch
from sccengine.kernels.cuda.arguments import many_rows
from sccengine.kernels.cuda.intrinsics import ALIGNMENT, load, load4, store, store4
from sccengine.kernels.cuda.scc_pack import panels_of
from sccengine.kernels.cuda.scc_register_pack import busy_of, pack, reads_of
from sccengine.kernels.cuda.scc_register_shape import (
    COLUMN_STEP,
    LANE_COLUMNS,
    LANE_ROWS,
    MULTIPROCESSORS,
    ROW_STEP,
    WANTED_THREADS,
    WARP,
    Shape,
    column_in_warp,
    done_of,
    multiplication,
    row_in_warp,
)
from sccengine.kernels.cuda.scc_register_sums import add_splits
from sccengine.kernels.cuda.unroll import unrolled
from sccengine.kernels.cuda.vectors import rows_aligned

float32 = types.float32
int32 = types.int32
int64 = types.int64
uint32 = types.uint32

# By the name of the variant. 8 x 8 sums a thread; the simulator's tiles have few threads.
SHAPES = (
    {
        "register_tiles_128x128": Shape(2, 1, 8, 8, 4),
        "register_tiles_64x128": Shape(1, 1, 8, 8, 4),
        "register_tiles_32x128": Shape(1, 2, 4, 8, 4),
    }
    if launch.SIMULATED
    else {
        "register_tiles_128x128": Shape(4, 2, 8, 8, 8),
        "register_tiles_64x128": Shape(2, 2, 8, 8, 8),
        "register_tiles_32x128": Shape(1, 2, 8, 8, 8),
    }
)
# Instructions that a multiply-add costs, itself and its share of the rest of the loop, in the machine code for 9.0; the
# narrowest tile pays for what it asks of the second-level cache.
INSTRUCTIONS = {"register_tiles_128x128": 1.16, "register_tiles_64x128": 1.18, "register_tiles_32x128": 1.35}
# Cycles for each instruction that a multiprocessor could issue in one, as measured, and for a launch of add_splits.
STALLS = 1.5
SPLITS_CYCLES = 16_000
LANES_OF_A_MULTIPROCESSOR = 128
# Parts of a panel have at least so many slabs.
LEAST_SLABS = 1 if launch.SIMULATED else 4


def _contraction(shape):
    """The kernel of one tile shape."""
    tile, columns, depth, threads = shape.tile, shape.columns, shape.depth, shape.threads
    thread_rows, thread_columns = shape.thread_rows, shape.thread_columns
    warp_columns = shape.warp_columns
    warp_height, warp_width = LANE_ROWS * thread_rows, LANE_COLUMNS * thread_columns
    left_size, right_size = depth * tile, depth * columns
    stage = left_size + right_size
    memory = 2 * stage
    # Vectors of 4 that a thread brings for a slab, and how many panel rows lie between two of them.
    left_vectors, right_vectors = left_size // 4 // threads, right_size // 4 // threads
    row_vectors = columns // 4
    row_stride = threads // row_vectors
    multiply = multiplication(shape, tile, columns)

    @unrolled
    def contract(
        source,  # (S, M)
        packed,  # (slabs, depth, tile)
        reads,  # (slabs + 1, depth): the rows of source that a slab reads
        busy,  # (slabs + 1,): bit s where strip s of the tile, a warp's rows, has weights in a slab
        begin,  # (tiles + 1,): tile t has the slabs begin[t] to begin[t + 1]
        rows,  # (tiles, tile): the rows of result that a tile makes, -1 where it is not full
        bias,  # (R,), read only if has_bias
        result,  # (splits, R, M)
        has_bias,
        relu,
        vectors,  # whether rows of source and result can be accessed 16 bytes at a time
        tiles,
        splits,
        M,
        R,
    ):
        shared = cuda.shared.array(memory, float32, ALIGNMENT)
        total = cuda.local.array((thread_rows, thread_columns), float32)
        weights = cuda.local.array((left_vectors, 4), float32)
        values = cuda.local.array((right_vectors, 4), float32)
        there = cuda.local.array(right_vectors, int32)
        for i in range(thread_rows):
            for j in range(thread_columns):
                total[i, j] = float32(0)

        # Blocks of one strip of columns, which read the same part of the source, are neighbours.
        block = uint32(cuda.blockIdx.x)
        t = int32(block % uint32(tiles))
        part = uint32(block // uint32(tiles))
        split = int32(part % uint32(splits))
        m0 = int32(uint32(part // uint32(splits)) * uint32(columns))
        thread = int32(cuda.threadIdx.x)
        here = load(begin, t)
        slabs = int32(load(begin, int32(t + 1)) - here)
        slab = int32(uint32(slabs * split) // uint32(splits))
        end = int32(uint32(slabs * (split + 1)) // uint32(splits))

        # What this thread brings to each slab: four columns of the rows d, d + row_stride ..., and packed weights.
        d = int32(uint32(thread) // uint32(row_vectors))
        column = int32(m0 + int32(uint32(thread) % uint32(row_vectors)) * 4)
        inside = int32(min(column, int32(M - 4)))
        last = int32(M - 1)
        reads_at = int32((here + slab) * depth + d)
        packed_at = int32((here + slab) * left_size + 4 * thread)

        # Where this thread's rows and columns begin in shared memory, and where it puts what it brings.
        warp = int32(uint32(thread) // uint32(WARP))
        strip = int32(uint32(warp) // uint32(warp_columns))
        row = int32(strip * warp_height + row_in_warp(thread))
        column_of_thread = int32(int32(uint32(warp) % uint32(warp_columns)) * warp_width + column_in_warp(thread))
        to = int32(4 * thread)

        for v in range(right_vectors):
            there[v] = load(reads, reads_at + v * row_stride)
        slabs = int32(end - slab)
        slab = int32(here + slab)
        works = int32(0)
        coming = int32(0)
        bit = int32(1 << strip)
        step = int32(-1)
        while step < slabs:
            # Slab `step` stands in one half of shared memory and is multiplied; slab `step + 1` comes to the other.
            side = int32((step & 1) * stage)
            fetch = int32(step + 1) < slabs
            if fetch:
                coming = load(busy, slab)
                slab = int32(slab + 1)
                for v in range(left_vectors):
                    weights[v, 0], weights[v, 1], weights[v, 2], weights[v, 3] = load4(
                        packed, packed_at + v * 4 * threads
                    )
                for v in range(right_vectors):
                    at = int64(there[v]) * M
                    if vectors:
                        values[v, 0], values[v, 1], values[v, 2], values[v, 3] = load4(source, at + inside)
                    else:
                        for e in range(4):
                            values[v, e] = load(source, at + min(int32(column + e), last))
                packed_at = int32(packed_at + left_size)
                reads_at = int32(reads_at + depth)
                for v in range(right_vectors):
                    there[v] = load(reads, reads_at + v * row_stride)
            if int32(works & bit) != 0:
                multiply(shared, int32(side + row), int32(side + left_size + column_of_thread), total)
            if fetch:
                works = coming
                other = int32(stage - side + to)
                for v in range(left_vectors):
                    at = other + v * 4 * threads
                    store4(shared, at, weights[v, 0], weights[v, 1], weights[v, 2], weights[v, 3])
                for v in range(right_vectors):
                    at = other + (left_size + v * 4 * threads)
                    store4(shared, at, values[v, 0], values[v, 1], values[v, 2], values[v, 3])
                cuda.syncthreads()
            step = int32(step + 1)

        column = int32(m0 + column_of_thread)
        target_at = int32(t * tile + row)
        for i in range(thread_rows):
            target = load(rows, target_at + (i // 4 * ROW_STEP + i % 4))
            if target >= 0:
                offset = load(bias, target) if has_bias else float32(0)
                at = int64(split * R + target) * M
                for j in range(thread_columns):
                    value = total[i, j] + offset
                    # Comparisons, because max(NaN, 0) is 0 on a GPU.
                    total[i, j] = float32(0) if relu and value <= 0 else value
                for j in range(thread_columns // 4):
                    m = int32(column + j * COLUMN_STEP)
                    if vectors:
                        if m < int32(M):
                            here = at + m
                            store4(
                                result,
                                here,
                                total[i, 4 * j],
                                total[i, 4 * j + 1],
                                total[i, 4 * j + 2],
                                total[i, 4 * j + 3],
                            )
                    else:
                        for e in range(4):
                            if int32(m + e) < int32(M):
                                store(result, at + m + e, total[i, 4 * j + e])

    contract.__name__ = contract.__qualname__ = f"contract_{tile}x{columns}"
    return many_rows(cuda.jit(contract))


CONTRACT = {name: _contraction(shape) for name, shape in SHAPES.items()}


def forward(x, weight, bias, y, windows, relu, variant):
    """y (O, M) from x (C, M), weight (O, K) and bias (O,) or None; relu: whether negative sums become 0."""
    _contract(x, weight, bias, y, windows, relu, variant, transposed=False)


def backward_input(dy, weight, dx, windows, variant):
    """dx (C, M) from dy (O, M) and weight (O, K)."""
    _contract(dy, weight, None, dx, windows, False, variant, transposed=True)


@cache
def splits_of(windows, transposed, variant, columns):
    """Into how many parts the panels are cut: one, unless there are fewer than four warps for a multiprocessor."""
    shape = SHAPES[variant]
    panels = panels_of(windows, transposed, shape.tile, shape.depth)
    blocks = len(panels.rows) * launch.divide_up(columns, shape.columns)
    most = int(np.diff(panels.begin).min()) // LEAST_SLABS
    return max(1, min(most, WANTED_THREADS // (blocks * shape.threads)))


def work(windows, transposed, variant, columns):
    """Cycles of the multiprocessors of an H200: for multiply-adds, needless ones included, and for adding up splits."""
    shape = SHAPES[variant]
    panels = panels_of(windows, transposed, shape.tile, shape.depth)
    strips = launch.divide_up(columns, shape.columns)
    splits = splits_of(windows, transposed, variant, columns)
    threads = len(panels.rows) * splits * strips * shape.threads
    busy = busy_of(windows, transposed, shape.tile, shape.depth, shape.strip)
    done = done_of(busy, len(panels.sources), shape.tile // shape.strip) * shape.depth * shape.strip
    multiply_adds = done * strips * shape.columns / min(1, threads / WANTED_THREADS)
    cycles = multiply_adds * INSTRUCTIONS[variant] * STALLS / (MULTIPROCESSORS * LANES_OF_A_MULTIPROCESSOR)
    return cycles + (SPLITS_CYCLES if splits > 1 else 0)


def _contract(source, weight, bias, result, windows, relu, variant, transposed):
    shape = SHAPES[variant]
    rows, columns = result.shape
    panels = panels_of(windows, transposed, shape.tile, shape.depth)
    tiles = len(panels.rows)
    splits = splits_of(windows, transposed, variant, columns)
    packed = pack(weight, windows, transposed, shape.tile, shape.depth)
    sums = result if splits == 1 else launch.empty((splits, rows, columns), like=result)
    reads = reads_of(windows, transposed, shape.tile, shape.depth)
    busy = busy_of(windows, transposed, shape.tile, shape.depth, shape.strip)
    tables = [launch.table(each, source) for each in (reads, busy, panels.begin, panels.rows)]
    launch.blocks(
        CONTRACT[variant],
        tiles * splits * launch.divide_up(columns, shape.columns),
        shape.threads,
        source,
        packed,
        *tables,
        bias,
        sums,
        bias is not None and splits == 1,
        relu and splits == 1,
        rows_aligned(source, sums),
        tiles,
        splits,
        columns,
        rows,
    )
    if splits > 1:
        add_splits(sums, bias, result, relu)


COMPILE = [
    launch.Build(
        kernel,
        "FFIIIIFFiiiiiii",
        dtypes=("float32",),
        instructions=("FFMA", "LDS.128", "LDG.E.128", "STS.128", "STG.E.128"),
        # Two blocks of 256 threads on a multiprocessor, or four of 128; of 64 threads, seven with 144.
        registers=144 if name == "register_tiles_32x128" else 128,
    )
    for name, kernel in CONTRACT.items()
]
