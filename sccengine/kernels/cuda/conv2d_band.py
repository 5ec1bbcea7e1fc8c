"""The gradient of a dense or grouped convolution's weights as a product of matrices, in float32.

    dweight[f,k] = sum_m dy[f,m] * x[c, ho*sh - ph + kh, wo*sw - pw + kw, n]        k = (c, kh, kw), m = (ho, wo, n)

for each group. Both rows run along the sum, so a slab is turned over in shared memory as in scc_register_band.py. A
block makes a tile of filters x `columns` of the k over one span of m. A thread brings to each slab the same rows of dy
and the same k, so it knows their channels and taps beforehand; what moves is m: each slab divides its m by N and WO,
once for all rows. LANES = 4: four images of one pixel (N % 4 == 0); LANES = 1: up to four pixels.

The sum is long and dweight small, so m is cut into spans, as many as keep the machine busy; a second kernel adds them
in order. Floor on an H200: 2 * O * C/G * KH*KW * M / 67 TFLOP/s. Of the instructions of the loop over slabs (compute
capability 9.0) 79 % are multiply-adds with 128 x 128 a tile, 68 % with 64 x 64; with LANES = 1 they are 62 and 47 %.
"""

from numba import cuda, types

from sccengine.kernels.cuda import launch
from sccengine.kernels.cuda.indexing import quotient
from sccengine.kernels.cuda.intrinsics import ALIGNMENT, load, load4, store
from sccengine.kernels.cuda.scc_register_band import fetch_vector
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
from sccengine.kernels.cuda.scc_register_sums import add_spans, sums_of
from sccengine.kernels.cuda.unroll import unrolled
from sccengine.kernels.cuda.vectors import rows_aligned

float32 = types.float32
int32 = types.int32
uint32 = types.uint32

# Filters x taps of a tile: 128 x 128 and 64 x 64; in the simulator 16 x 16 by many threads and by few. Widest first.
SHAPES = (
    (Shape(2, 2, 4, 4, 8), Shape(1, 1, 8, 8, 8)) if launch.SIMULATED else (Shape(4, 2, 8, 8, 8), Shape(2, 2, 8, 4, 16))
)
# A span has at least so many columns.
LEAST_SPAN = 16 if launch.SIMULATED else 256


def _band(shape, lanes):
    """The kernel of one tile shape, for four images a place or one."""
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
    LANES = lanes
    places = 4 // lanes
    aligned = lanes == 4
    multiply = multiplication(shape, left_pitch, right_pitch)

    @unrolled
    def band(
        dy,  # (G * filters, HO, WO, N)
        x,  # (G * channels, H, W, N)
        sums,  # (spans, G * filters, K)
        span,  # columns m that one block adds up: a multiple of `depth`
        tiles,  # of filters, in a group
        filters,  # of a group
        channels,  # of a group
        K,  # channels * KH * KW
        all_filters,  # O
        height,  # H
        width,  # W
        batch,  # N
        out_width,  # WO
        M,  # HO * WO * N
        kernel_height,  # KH
        kernel_width,  # KW
        stride_height,
        stride_width,
        padding_height,
        padding_width,
    ):
        shared = cuda.shared.array(memory, float32, ALIGNMENT)
        total = cuda.local.array((thread_rows, thread_columns), float32)
        left_values = cuda.local.array((left_rows * passes, 4), float32)
        right_values = cuda.local.array((right_rows * passes, 4), float32)
        left_at = cuda.local.array(left_rows, int32)
        right_at = cuda.local.array(right_rows, int32)
        dh = cuda.local.array(right_rows, int32)
        dw = cuda.local.array(right_rows, int32)
        for i in range(thread_rows):
            for j in range(thread_columns):
                total[i, j] = float32(0)

        k0 = int32(cuda.blockIdx.x * columns)
        group = quotient(cuda.blockIdx.y, tiles)
        f0 = int32((cuda.blockIdx.y - group * tiles) * tile)

        # What this thread brings to each slab. Rows past the end are the last ones again: nobody stores their sums.
        thread = int32(cuda.threadIdx.x)
        line = int32(thread >> 1)
        along = int32((thread & 1) * 4)
        for v in range(left_rows):
            f = int32(min(int32(f0 + line + v * row_stride), int32(filters - 1)))
            left_at[v] = int32((group * filters + f) * M)
        for v in range(right_rows):
            k = int32(min(int32(k0 + line + v * row_stride), int32(K - 1)))
            tap_row = quotient(k, kernel_width)
            channel = quotient(tap_row, kernel_height)
            dh[v] = int32(tap_row - channel * kernel_height - padding_height)
            dw[v] = int32(k - tap_row * kernel_width - padding_width)
            right_at[v] = int32((((group * channels + channel) * height + dh[v]) * width + dw[v]) * batch)

        # Where this thread's rows and columns begin in shared memory, and where it puts what it brings.
        warp = quotient(thread, WARP)
        warp_row = quotient(warp, warp_columns)
        row = int32(warp_row * warp_height + row_in_warp(thread))
        column = int32((warp - warp_row * warp_columns) * warp_width + column_in_warp(thread))

        m = int32(int32(cuda.blockIdx.z) * span)
        end = int32(min(int32(M), int32(m + span)))
        slabs = quotient(int32(end - m + depth - 1), depth)
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
                        fetch_vector(left_values, v * passes + q, dy, left_at[v], here, end, aligned)
                    for p in range(places):
                        place = int32(here + p)
                        pixel = quotient(place, batch)
                        ho = quotient(pixel, out_width)
                        top = int32(ho * stride_height)
                        left = int32((pixel - ho * out_width) * stride_width)
                        there = int32((top * width + left) * batch + place - pixel * batch)
                        for v in range(right_rows):
                            slot = v * passes + q
                            inside = uint32(top + dh[v]) < uint32(height)
                            inside &= uint32(left + dw[v]) < uint32(width)
                            inside &= place < end
                            at = int32(right_at[v] + there)
                            if LANES == 4:
                                if inside:
                                    (
                                        right_values[slot, 0],
                                        right_values[slot, 1],
                                        right_values[slot, 2],
                                        right_values[slot, 3],
                                    ) = load4(x, at)
                                else:
                                    for e in range(4):
                                        right_values[slot, e] = float32(0)
                            else:
                                right_values[slot, p] = load(x, at) if inside else float32(0)
                m = int32(m + depth)
            if step >= 0:
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

        for i in range(thread_rows):
            f = int32(f0 + row + i // 4 * ROW_STEP + i % 4)
            if f < filters:
                at = int32((int32(cuda.blockIdx.z) * all_filters + group * filters + f) * K)
                for j in range(thread_columns):
                    k = int32(k0 + column + j // 4 * COLUMN_STEP + j % 4)
                    if k < K:
                        store(sums, int32(at + k), total[i, j])

    band.__name__ = band.__qualname__ = f"band_{tile}x{columns}_lanes_{LANES}"
    return cuda.jit(band)


BAND = {(shape, lanes): _band(shape, lanes) for shape in SHAPES for lanes in (4, 1)}


def backward_weight(dy, x, dweight, stride, padding, groups, shape=None):
    """dweight (O, C/G, KH, KW) from dy (O, HO, WO, N) and x (C, H, W, N); shape: one of SHAPES."""
    all_filters, channels, *kernel = dweight.shape
    filters, taps = all_filters // groups, channels * kernel[0] * kernel[1]
    out_height, out_width, batch = dy.shape[1:]
    columns = out_height * out_width * batch
    shape = shape or shape_for(filters, taps)
    tiles = launch.divide_up(filters, shape.tile)
    grid = launch.divide_up(taps, shape.columns), groups * tiles
    spans, span = spans_for(shape, grid[0] * grid[1], columns)
    sums = sums_of(spans, dweight)
    launch.blocks(
        BAND[shape, 4 if rows_aligned(dy, x) else 1],
        (*grid, spans),
        shape.threads,
        dy,
        x,
        sums,
        span,
        tiles,
        filters,
        channels,
        taps,
        all_filters,
        *x.shape[1:],
        out_width,
        columns,
        *kernel,
        *stride,
        *padding,
    )
    add_spans(sums, dweight)


def shape_for(filters, taps):
    """The shape whose tiles have the fewest entries too many; of several the widest."""

    def entries(shape):
        return (
            launch.divide_up(filters, shape.tile) * launch.divide_up(taps, shape.columns) * shape.tile * shape.columns
        )

    return min(SHAPES, key=entries)


def spans_for(shape, blocks, columns):
    """How many spans of how many columns: enough for the machine, but none that is hardly worth its partial sums."""
    spans = max(1, min(WANTED_THREADS // (blocks * shape.threads), columns // LEAST_SPAN))
    span = launch.divide_up(launch.divide_up(columns, spans), shape.depth) * shape.depth
    return launch.divide_up(columns, span), span


COMPILE = [
    launch.Build(
        kernel,
        "FFF" + "i" * 17,
        dtypes=("float32",),
        instructions=("FFMA", "LDS.128", "STS") + (("LDG.E.128",) if lanes == 4 else ()),
        registers=128,
    )
    for (_, lanes), kernel in BAND.items()
]
