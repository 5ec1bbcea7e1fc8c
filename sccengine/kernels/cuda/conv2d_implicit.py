"""Dense and grouped convolution as a product of matrices that are never stored, in float32.

    result[row,m] = bias[row] + sum over k = (c, t) of W(row,k) * source[c, i*step + dh(t), j*step + dw(t), n]

for each group: k counts the taps t of a source channel c, then channels; m = (i, j, n) counts the pixels of a grid and
the images. Pixels outside the source count as zero.

    forward  source x, result y: the grid is y's, step the stride, tap (kh, kw) reads dh = kh - ph, dw = kw - pw
    dx       source dy, result dx: one product for each phase (a, b) of the stride. Its grid is the pixels h = a + i*sh,
             w = b + j*sw; of the taps only those with (a + ph - kh) % sh == 0 meet an output row, at i + dh with
             dh = (a + ph - kh) / sh; columns alike. No product with a zero in between is made.

The product is that of scc_register_tiles.py: a block makes a tile of rows x `columns` columns in slabs of `depth`
steps, with the sums in registers (scc_register_shape.py) and the next slab on its way meanwhile. What differs is where
a slab comes from. A thread brings to every slab the same four columns, so it finds their pixels once. They are four
images of one pixel if N % 4 == 0 (LANES = 4: one load of 16 bytes, and one question whether the pixel is inside), else
up to four pixels (LANES = 1). Each slab asks for the next channel and tap: an addition, a carry, and (dh, dw) from a
table that stays in the first-level cache, as do the rows of source: the taps of one channel are neighbours in k.

Weights come packed as in scc_register_pack.py, in slabs of the order of k, zero past the ends. With few columns the sum
over k is cut into `splits` parts, added up in order by a second kernel.

Floor on an H200: 2 * O * C/G * KH*KW * M / 67 TFLOP/s; images are read ceil(rows / tile) times, mostly from the caches.
Of the instructions of the loop over slabs (compute capability 9.0) 83 % are multiply-adds with 128 rows a tile, 78 %
with 64, 69 % with 32; with LANES = 1 they are 79, 71 and 60 %.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numba import cuda, types

from sccengine.kernels.cuda import launch
from sccengine.kernels.cuda.indexing import quotient
from sccengine.kernels.cuda.intrinsics import ALIGNMENT, load, load4, store, store4
from sccengine.kernels.cuda.scc_register_shape import (
    COLUMN_STEP,
    LANE_COLUMNS,
    LANE_ROWS,
    ROW_STEP,
    WANTED_THREADS,
    WARP,
    Shape,
    column_in_warp,
    multiplication,
    row_in_warp,
)
from sccengine.kernels.cuda.scc_register_sums import add_splits
from sccengine.kernels.cuda.unroll import unrolled
from sccengine.kernels.cuda.vectors import rows_aligned

float32 = types.float32
int32 = types.int32
uint32 = types.uint32

# Widest first.
SHAPES = (
    (Shape(2, 1, 8, 8, 4), Shape(1, 1, 8, 8, 4), Shape(1, 2, 4, 8, 4))
    if launch.SIMULATED
    else (Shape(4, 2, 8, 8, 8), Shape(2, 2, 8, 8, 8), Shape(2, 2, 4, 8, 16))
)
# Parts of a sum have at least so many slabs.
LEAST_SLABS = 4


class Phase(NamedTuple):
    """One product: which pixels of the result it makes, and which taps they take."""

    first: tuple  # (h, w) of the grid's first pixel in the result
    grid: tuple  # (rows, columns) of pixels
    taps: np.ndarray  # (T,) int32: dh * 2**16 + dw, two numbers of 16 bits
    numbers: np.ndarray  # (T,) int32: kh * KW + kw


@cuda.jit
def pack_v1(
    weight,  # (O, C/G, KH, KW)
    numbers,  # (T,)
    packed,  # (G * tiles, slabs, depth, tile): a block for each slab
    tiles,  # of a group
    slabs,
    tile,
    depth,
    rows,  # of a group
    channels,  # of a group of the source
    tap_count,  # T
    group_pitch,  # elements of weight from a group to the next
    row_pitch,  # from a row of the product to the next
    channel_pitch,  # from a channel of the source to the next
):
    slab = int32(cuda.blockIdx.x)
    t = quotient(slab, slabs)
    group = quotient(t, tiles)
    first_row = int32((t - group * tiles) * tile)
    first_k = int32((slab - t * slabs) * depth)
    for e in range(cuda.threadIdx.x, tile * depth, launch.BLOCK):
        d = quotient(e, tile)
        row = int32(first_row + e - d * tile)
        k = int32(first_k + d)
        channel = quotient(k, tap_count)
        value = float32(0)
        if row < rows and channel < channels:
            number = load(numbers, int32(k - channel * tap_count))
            value = load(weight, int32(group * group_pitch + row * row_pitch + channel * channel_pitch + number))
        store(packed, int32(slab * tile * depth + e), value)


def _contraction(shape, lanes):
    """The kernel of one tile shape, for four images a place or one."""
    tile, columns, depth, threads = shape.tile, shape.columns, shape.depth, shape.threads
    thread_rows, thread_columns, warp_columns = shape.thread_rows, shape.thread_columns, shape.warp_columns
    warp_height, warp_width = LANE_ROWS * thread_rows, LANE_COLUMNS * thread_columns
    left_size, right_size = depth * tile, depth * columns
    stage = left_size + right_size
    memory = 2 * stage
    # Vectors of 4 that a thread brings for a slab, and how many steps lie between two of them.
    left_vectors, right_vectors = left_size // 4 // threads, right_size // 4 // threads
    row_vectors = columns // 4
    row_stride = threads // row_vectors
    # Places (i, j, n) of a thread's four columns, and of those that it stores.
    LANES = lanes
    places, stored_places = 4 // lanes, thread_columns // lanes
    multiply = multiplication(shape, tile, columns)

    @unrolled
    def contract(
        source,  # (G * channels, source_height, source_width, N)
        packed,  # (G * tiles, slabs, depth, tile)
        taps,  # (T,): dh * 2**16 + dw, two numbers of 16 bits
        bias,  # (G * rows,), read only if has_bias
        result,  # (splits, G * rows, result_height, result_width, N)
        has_bias,
        groups,  # G
        tiles,  # of a group
        slabs,
        splits,
        rows,  # of a group
        channels,  # of a group
        tap_count,  # T
        batch,  # N
        source_height,
        source_width,
        step_height,
        step_width,
        grid_width,
        M,  # grid_height * grid_width * N
        result_height,
        result_width,
        first_height,  # of the grid in the result
        first_width,
        result_step_height,
        result_step_width,
    ):
        shared = cuda.shared.array(memory, float32, ALIGNMENT)
        total = cuda.local.array((thread_rows, thread_columns), float32)
        weights = cuda.local.array((left_vectors, 4), float32)
        values = cuda.local.array((right_vectors, 4), float32)
        top = cuda.local.array(places, int32)
        left = cuda.local.array(places, int32)
        place = cuda.local.array(places, int32)
        channel = cuda.local.array(right_vectors, int32)
        tap = cuda.local.array(right_vectors, int32)
        shift = cuda.local.array(right_vectors, int32)
        target = cuda.local.array(stored_places, int32)
        for i in range(thread_rows):
            for j in range(thread_columns):
                total[i, j] = float32(0)

        # Blocks of one strip of columns, which read the same part of the source, are neighbours.
        part = quotient(cuda.blockIdx.x, groups * tiles)
        t = int32(cuda.blockIdx.x - part * groups * tiles)
        strip = quotient(part, splits)
        split = int32(part - strip * splits)
        m0 = int32(strip * columns)
        group = quotient(t, tiles)
        slab = quotient(slabs * split, splits)
        end = quotient(slabs * (split + 1), splits)
        thread = int32(cuda.threadIdx.x)

        # The pixels and images of this thread's four columns; past the end the last ones, whose sums nobody stores.
        d = quotient(thread, row_vectors)
        column = int32(m0 + (thread - d * row_vectors) * 4)
        for p in range(places):
            m = int32(min(int32(column + p * LANES), int32(M - LANES)))
            pixel = quotient(m, batch)
            i = quotient(pixel, grid_width)
            top[p] = int32(i * step_height)
            left[p] = int32((pixel - i * grid_width) * step_width)
            place[p] = int32((top[p] * source_width + left[p]) * batch + m - pixel * batch)
        # The channels and taps that it brings to the first slab, and how far they are from those of the next.
        for v in range(right_vectors):
            k = int32(slab * depth + d + v * row_stride)
            channel[v] = quotient(k, tap_count)
            tap[v] = int32(k - channel[v] * tap_count)
            shift[v] = load(taps, tap[v])
        channel_step = quotient(depth, tap_count)
        tap_step = int32(depth - channel_step * tap_count)
        first_channel = int32(group * channels)
        plane = int32(source_height * source_width * batch)
        packed_at = int32((t * slabs + slab) * left_size + 4 * thread)

        # Where this thread's rows and columns begin in shared memory, and where it puts what it brings.
        warp = quotient(thread, WARP)
        warp_row = quotient(warp, warp_columns)
        row = int32(warp_row * warp_height + row_in_warp(thread))
        column = int32((warp - warp_row * warp_columns) * warp_width + column_in_warp(thread))
        to = int32(4 * thread)

        slabs = int32(end - slab)
        step = int32(-1)
        while step < slabs:
            # Slab `step` stands in one half of shared memory and is multiplied; slab `step + 1` comes to the other.
            side = int32((step & 1) * stage)
            fetch = int32(step + 1) < slabs
            if fetch:
                for v in range(left_vectors):
                    weights[v, 0], weights[v, 1], weights[v, 2], weights[v, 3] = load4(
                        packed, int32(packed_at + v * 4 * threads)
                    )
                for v in range(right_vectors):
                    dh = int32(shift[v] >> 16)
                    dw = int32(int32(shift[v] << 16) >> 16)
                    start = int32((first_channel + channel[v]) * plane + (dh * source_width + dw) * batch)
                    for p in range(places):
                        inside = uint32(top[p] + dh) < uint32(source_height)
                        inside &= uint32(left[p] + dw) < uint32(source_width)
                        inside &= channel[v] < channels
                        at = int32(start + place[p])
                        if LANES == 4:
                            if inside:
                                values[v, 0], values[v, 1], values[v, 2], values[v, 3] = load4(source, at)
                            else:
                                for e in range(4):
                                    values[v, e] = float32(0)
                        else:
                            values[v, p] = load(source, at) if inside else float32(0)
                    channel[v] = int32(channel[v] + channel_step)
                    tap[v] = int32(tap[v] + tap_step)
                    if tap[v] >= tap_count:
                        tap[v] = int32(tap[v] - tap_count)
                        channel[v] = int32(channel[v] + 1)
                    shift[v] = load(taps, tap[v])
                packed_at = int32(packed_at + left_size)
            if step >= 0:
                multiply(shared, int32(side + row), int32(side + left_size + column), total)
            if fetch:
                other = int32(stage - side + to)
                for v in range(left_vectors):
                    at = int32(other + v * 4 * threads)
                    store4(shared, at, weights[v, 0], weights[v, 1], weights[v, 2], weights[v, 3])
                for v in range(right_vectors):
                    at = int32(other + left_size + v * 4 * threads)
                    store4(shared, at, values[v, 0], values[v, 1], values[v, 2], values[v, 3])
                cuda.syncthreads()
            step = int32(step + 1)

        for p in range(stored_places):
            m = int32(m0 + column + p * LANES // 4 * COLUMN_STEP + p * LANES % 4)
            target[p] = int32(-1)
            if m < M:
                pixel = quotient(m, batch)
                i = quotient(pixel, grid_width)
                h = int32(first_height + i * result_step_height)
                w = int32(first_width + (pixel - i * grid_width) * result_step_width)
                target[p] = int32((h * result_width + w) * batch + m - pixel * batch)
        plane = int32(result_height * result_width * batch)
        row = int32((t - group * tiles) * tile + row)
        for i in range(thread_rows):
            r = int32(row + i // 4 * ROW_STEP + i % 4)
            if r < rows:
                r = int32(group * rows + r)
                offset = load(bias, r) if has_bias else float32(0)
                start = int32((split * groups * rows + r) * plane)
                for p in range(stored_places):
                    if target[p] >= 0:
                        at = int32(start + target[p])
                        if LANES == 4:
                            store4(
                                result,
                                at,
                                total[i, 4 * p] + offset,
                                total[i, 4 * p + 1] + offset,
                                total[i, 4 * p + 2] + offset,
                                total[i, 4 * p + 3] + offset,
                            )
                        else:
                            store(result, at, total[i, p] + offset)

    contract.__name__ = contract.__qualname__ = f"contract_{tile}x{columns}_lanes_{LANES}"
    # As many registers as let a multiprocessor hold 16 warps.
    return cuda.jit(contract, **launch.launch_bounds(threads, 512 // threads))


CONTRACT = {(shape, lanes): _contraction(shape, lanes) for shape in SHAPES for lanes in (4, 1)}


def forward(x, weight, bias, y, stride, padding, groups, shape=None):
    """y (O, HO, WO, N) from x (C, H, W, N), weight (O, C/G, KH, KW) and bias (O,) or None; shape: one of SHAPES."""
    phases = (forward_phase(weight.shape[2:], padding, y.shape[1:3]),)
    taps = weight.shape[2] * weight.shape[3]
    pitches = weight.shape[1] * taps, taps
    _contract(x, weight, bias, y, groups, phases, stride, (1, 1), pitches, shape)


def backward_input(dy, weight, dx, stride, padding, groups, shape=None):
    """dx (C, H, W, N) from dy (O, HO, WO, N) and weight (O, C/G, KH, KW); shape: one of SHAPES."""
    phases = backward_phases(weight.shape[2:], stride, padding, dx.shape[1:3])
    taps = weight.shape[2] * weight.shape[3]
    pitches = taps, weight.shape[1] * taps
    _contract(dy, weight, None, dx, groups, phases, (1, 1), stride, pitches, shape)


@cache
def forward_phase(kernel, padding, size):
    """The product that makes y, of `size` (HO, WO)."""
    pairs = [(kh - padding[0], kw - padding[1]) for kh in range(kernel[0]) for kw in range(kernel[1])]
    return Phase((0, 0), size, packed_pairs(pairs), np.arange(len(pairs), dtype=np.int32))


@cache
def backward_phases(kernel, stride, padding, size):
    """The products that together make dx, of `size` (H, W); one that no tap reaches has no taps."""
    phases = []
    for a in range(min(stride[0], size[0])):
        for b in range(min(stride[1], size[1])):
            rows = [kh for kh in range(kernel[0]) if (a + padding[0] - kh) % stride[0] == 0]
            columns = [kw for kw in range(kernel[1]) if (b + padding[1] - kw) % stride[1] == 0]
            meet = [(kh, kw) for kh in rows for kw in columns]
            pairs = [((a + padding[0] - kh) // stride[0], (b + padding[1] - kw) // stride[1]) for kh, kw in meet]
            numbers = [kh * kernel[1] + kw for kh, kw in meet]
            grid = launch.divide_up(size[0] - a, stride[0]), launch.divide_up(size[1] - b, stride[1])
            phases.append(Phase((a, b), grid, packed_pairs(pairs), np.array(numbers, np.int32)))
    return tuple(phases)


def packed_pairs(pairs):
    """(T,) int32 from T pairs (dh, dw) of numbers below 2**15 in magnitude."""
    return np.array([(dh << 16) | (dw & 0xFFFF) for dh, dw in pairs], np.int32)


def shape_for(rows):
    """The shape that makes the fewest rows too many; of several the widest."""
    return min(SHAPES, key=lambda shape: launch.divide_up(rows, shape.tile) * shape.tile)


def splits_for(shape, blocks, slabs):
    """Into how many parts the sums over k are cut: none, unless the blocks are too few for the machine."""
    return max(1, min(slabs // LEAST_SLABS, WANTED_THREADS // (blocks * shape.threads)))


def _contract(source, weight, bias, result, groups, phases, step, result_step, pitches, shape):
    rows, channels = result.shape[0] // groups, source.shape[0] // groups
    shape = shape or shape_for(rows)
    tiles = launch.divide_up(rows, shape.tile)
    batch = result.shape[3]
    columns = [phase.grid[0] * phase.grid[1] * batch for phase in phases]
    slabs = [launch.divide_up(channels * len(phase.taps), shape.depth) for phase in phases]
    strips = [launch.divide_up(each, shape.columns) for each in columns]
    splits = splits_for(shape, groups * tiles * max(strips), max(slabs))
    sums = result if splits == 1 else launch.empty((splits, *result.shape), like=result)
    kernel = CONTRACT[shape, 4 if rows_aligned(source, sums) else 1]
    for number, phase in enumerate(phases):
        packed, taps, count = None, launch.table(np.zeros(1), weight), 1
        if slabs[number]:
            taps, numbers = launch.table(phase.taps, weight), launch.table(phase.numbers, weight)
            count = len(phase.taps)
            packed = launch.empty((groups * tiles, slabs[number], shape.depth, shape.tile), like=weight)
            sizes = tiles, slabs[number], shape.tile, shape.depth, rows, channels, count
            pitch = weight.size // groups, *pitches
            blocks = groups * tiles * slabs[number]
            launch.blocks(pack_v1, blocks, launch.BLOCK, weight, numbers, packed, *sizes, *pitch)
        launch.blocks(
            kernel,
            groups * tiles * splits * strips[number],
            shape.threads,
            source,
            packed,
            taps,
            bias,
            sums,
            bias is not None and splits == 1,
            groups,
            tiles,
            slabs[number],
            splits,
            rows,
            channels,
            count,
            batch,
            *source.shape[1:3],
            *step,
            phase.grid[1],
            columns[number],
            *result.shape[1:3],
            *phase.first,
            *result_step,
        )
    if splits > 1:
        filters = result.shape[0]
        add_splits(sums.reshape(splits, filters, -1), bias, result.reshape(filters, -1), False)


COMPILE = [launch.Build(pack_v1, "FIF" + "i" * 10, dtypes=("float32",))] + [
    launch.Build(
        kernel,
        "FFIFF" + "i" * 21,
        dtypes=("float32",),
        instructions=("FFMA", "LDS.128", "STS.128") + (("LDG.E.128", "STG.E.128") if lanes == 4 else ()),
        registers=128,
    )
    for (_, lanes), kernel in CONTRACT.items()
]
