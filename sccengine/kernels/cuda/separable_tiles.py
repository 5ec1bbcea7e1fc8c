"""A depthwise separable block in evaluation as one kernel: the image between its two convolutions is never stored.

    z[c,m] = shift[c] + sum_{kh,kw} taps[c,kh,kw] * x[c, ho*sh - ph + kh, wo*sw - pw + kw, n]        (then ReLU)
    y[f,m] = shift[f] + sum_{k<K} weight[f,k] * z[(start[f] + k) mod C, m]                           (then ReLU)

x (C, H, W, N), y (O, HO, WO, N), m = (ho, wo, n), M = HO*WO*N; both batch norms are folded into taps, weight and shifts
(separable_fold.py). It is the contraction of scc_register_tiles.py, a tile of filters x `columns` columns a block with
its sums in registers, but for one thing: a slab of z is not loaded, it is computed, four columns of a channel a thread,
and put into shared memory, while warps of other blocks multiply.

So a block makes z anew for every tile of filters that reads it. An element of z costs 32 instructions (3x3; its KH*KW
multiply-adds, a quarter of as many loads, and their addresses and edges) beside the 1.2 times `tile` for which it is
made, 21 % at 128 filters. The other way, z of all channels in the shared memory of a block that makes all filters,
computes it once, but has room for 32 columns only where layers are wide, and there images are small: too few blocks
for half of the machine, each of which reads W as fast as the second-level cache can deliver; 2048 channels never fit.

The columns of a block are a patch of the image: tall x wide pixels of `images` images, all powers of two. Neighbouring
windows share their pixels, which come from the first-level cache then: 2 x 2 pixels of 32 images read 16 pixels for 4
(3x3, stride 1), not 36, and each is a whole line of the caches. `patch_of` weighs that against patches that overhang.

Floor on an H200: the larger of 2 (O K + KH KW C) M / 67 TFLOP/s and 4 (C H W N + O M) bytes / 4.8 TB/s. The operators
one by one move 8 C M bytes more for z, and another 8 (C + O) M with batch norms of their own. MobileNet's first block,
32 -> 64 channels, K = 16, 32 x 32, N = 128: 50 MB, 10.5 us, against 84 or 185 MB. All of its blocks at N = 128, panels
cut into up to 4 parts, give each of 132 multiprocessors 8 to 31 warps.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numba import cuda, types

from sccengine.kernels.cuda import launch
from sccengine.kernels.cuda.indexing import quotient
from sccengine.kernels.cuda.intrinsics import ALIGNMENT, load, load4, store, store4
from sccengine.kernels.cuda.launch import device_cuda
from sccengine.kernels.cuda.scc_pack import panels_of
from sccengine.kernels.cuda.scc_register_pack import busy_of, reads_of
from sccengine.kernels.cuda.scc_register_shape import (
    COLUMN_STEP,
    LANE_COLUMNS,
    LANE_ROWS,
    ROW_STEP,
    WANTED_THREADS,
    WARP,
    column_in_warp,
    done_of,
    multiplication,
    row_in_warp,
)
from sccengine.kernels.cuda.scc_register_sums import add_splits
from sccengine.kernels.cuda.scc_register_tiles import INSTRUCTIONS, LEAST_SLABS, SHAPES
from sccengine.kernels.cuda.separable_fold import fold_and_pack
from sccengine.kernels.cuda.unroll import unrolled
from sccengine.kernels.cuda.vectors import rows_aligned

float32 = types.float32
int32 = types.int32
uint32 = types.uint32

# Tiles of at least 64 filters: a narrower one would compute z more often than it is worth.
TILES = ("register_tiles_128x128", "register_tiles_64x128")
KERNELS = ((3, 3), (5, 5))
# Instructions that an element of z costs, in the machine code for 9.0, by kernel size and columns of a load, 4 or 1.
Z_INSTRUCTIONS = {((3, 3), 4): 32, ((3, 3), 1): 70, ((5, 5), 4): 79, ((5, 5), 1): 187}
# Bytes a cycle that a multiprocessor gets from the second-level cache; of a line, and of the part fetched by itself.
CACHE_BYTES, LINE, SECTOR = 24, 128, 32


class Patch(NamedTuple):
    """The columns of a block: tall x wide pixels of `images` images; binary logarithms."""

    tall: int
    wide: int
    images: int

    def counts(self, height, width, batch):
        """How many patches cover an image, down and across, and how many the batch."""
        return tuple(launch.divide_up(size, 1 << bits) for size, bits in zip((height, width, batch), self))


@cuda.jit(device=True)
def place_of(column, first_row, first_column, first_image, wide, images):
    """(ho, wo, n) of a block's column, where the block's patch begins at the first three."""
    n = int32(first_image + (column & ((1 << images) - 1)))
    wo = int32(first_column + (column >> images & ((1 << wide) - 1)))
    return int32(first_row + (column >> (images + wide))), wo, n


def pitch_of(kernel):
    """Numbers of a channel in the table of folded taps: the taps, the shift, and zeros up to whole vectors."""
    return 4 * launch.divide_up(kernel[0] * kernel[1] + 1, 4)


def _z_vector(kernel, lanes):
    """The device function z_of: four columns of one channel of z."""
    KH, KW = kernel
    TAPS, PITCH = KH * KW, pitch_of(kernel)
    VECTOR = lanes

    @cuda.jit(device=True)
    def z_of(
        x,  # (C, H, W, N)
        taps,  # (C, PITCH)
        channel,
        corner,  # where in a channel of x the window of the columns begins: of all four, or of each
        inside,  # its taps that read a pixel, and not the padding, as bits
        plane,  # H * W * N
        pitch,  # W * N
        batch,  # N
        relu,
    ):
        tap = device_cuda.local.array(PITCH, float32)
        pixel = device_cuda.local.array((KW, 4), float32)
        z = device_cuda.local.array(4, float32)
        zero = float32(0)
        taps_at = int32(channel * PITCH)
        for q in range(PITCH // 4):
            tap[4 * q], tap[4 * q + 1], tap[4 * q + 2], tap[4 * q + 3] = load4(taps, int32(taps_at + 4 * q))
        for e in range(4):
            z[e] = tap[TAPS]
        row = int32(channel * plane)
        for kh in range(KH):
            at = row
            for kw in range(KW):
                bit = int32(1 << (kh * KW + kw))
                for e in range(4):
                    pixel[kw, e] = zero
                if VECTOR == 4:
                    if inside[0] & bit:
                        pixel[kw, 0], pixel[kw, 1], pixel[kw, 2], pixel[kw, 3] = load4(x, int32(at + corner[0]))
                else:
                    for e in range(4):
                        if inside[e] & bit:
                            pixel[kw, e] = load(x, int32(at + corner[e]))
                at = int32(at + batch)
            for kw in range(KW):
                for e in range(4):
                    z[e] += tap[kh * KW + kw] * pixel[kw, e]
            row = int32(row + pitch)
        for e in range(4):
            # A comparison, because max(NaN, 0) is 0 on a GPU.
            z[e] = zero if relu and z[e] <= 0 else z[e]
        return z[0], z[1], z[2], z[3]

    return z_of


def _block(shape, kernel, lanes):
    """The kernel for one tile shape and one size of the depthwise kernel.

    lanes: neighbouring columns that are neighbours in memory, in x and y, and begin at 16 bytes: 4, else 1.
    """
    tile, columns, depth, threads = shape.tile, shape.columns, shape.depth, shape.threads
    thread_rows, thread_columns = shape.thread_rows, shape.thread_columns
    warp_columns = shape.warp_columns
    warp_height, warp_width = LANE_ROWS * thread_rows, LANE_COLUMNS * thread_columns
    left_size, right_size = depth * tile, depth * columns
    stage = left_size + right_size
    memory = 2 * stage
    # Vectors of weights that a thread brings for a slab; vectors in a row of z, and rows that are made at a time.
    left_vectors = left_size // 4 // threads
    row_vectors = columns // 4
    row_stride = threads // row_vectors
    multiply = multiplication(shape, tile, columns)
    KH, KW = kernel
    VECTOR = lanes
    z_of = _z_vector(kernel, lanes)
    # Places in the image of a thread's four columns.
    PLACES = 4 // lanes

    @unrolled
    def block(
        x,  # (C, H, W, N)
        taps,  # (C, PITCH): the taps of a channel, then its shift
        packed,  # (slabs, depth, tile): the weights
        reads,  # (slabs + 1, depth): the channels that a slab reads
        busy,  # (slabs + 1,): bit s where strip s of the tile, a warp's rows, has weights in a slab
        begin,  # (tiles + 1,): tile t has the slabs begin[t] to begin[t + 1]
        rows,  # (tiles, tile): the filters of a tile, -1 where it is not full
        shift,  # (O,)
        y,  # (splits, O, HO, WO, N); without shift and ReLU if there are several splits
        z_relu,
        relu,
        tiles,
        splits,
        tall,  # the Patch
        wide,
        images,
        across,  # patches in a row of the image
        groups,  # and in the batch
        filters,  # O
        height,  # H
        width,  # W
        batch,  # N
        out_height,  # HO
        out_width,  # WO
        stride_height,
        stride_width,
        padding_height,
        padding_width,
    ):
        shared = cuda.shared.array(memory, float32, ALIGNMENT)
        total = cuda.local.array((thread_rows, thread_columns), float32)
        weights = cuda.local.array((left_vectors, 4), float32)
        corner = cuda.local.array(PLACES, int32)
        inside = cuda.local.array(PLACES, int32)
        target_column = cuda.local.array(thread_columns, int32)
        zero = float32(0)
        for i in range(thread_rows):
            for j in range(thread_columns):
                total[i, j] = zero

        # Blocks of one patch, which read the same part of x, are neighbours, and then those of other images.
        number = int32(cuda.blockIdx.x)
        part = quotient(number, tiles)
        t = int32(number - part * tiles)
        strip = quotient(part, splits)
        split = int32(part - strip * splits)
        part = quotient(strip, groups)
        first_image = int32(strip - part * groups << images)
        first_row = quotient(part, across)
        first_column = int32(part - first_row * across << wide)
        first_row = int32(first_row << tall)
        thread = int32(cuda.threadIdx.x)
        here = load(begin, t)
        slabs = int32(load(begin, int32(t + 1)) - here)
        slab = quotient(slabs * split, splits)
        end = quotient(slabs * (split + 1), splits)

        # What this thread makes of each slab: four columns of the rows d, d + row_stride ..., and packed weights. The
        # bits of `inside` are the taps that read a pixel, and not the padding.
        d = quotient(thread, row_vectors)
        column = int32((thread - d * row_vectors) * 4)
        pitch = int32(width * batch)
        plane = int32(height * pitch)
        for e in range(PLACES):
            ho, wo, n = place_of(int32(column + e), first_row, first_column, first_image, wide, images)
            top = int32(ho * stride_height - padding_height)
            left = int32(wo * stride_width - padding_width)
            corner[e] = int32(top * pitch + left * batch + n)
            bits = int32(0)
            if ho < out_height and wo < out_width and n < batch:
                for kh in range(KH):
                    for kw in range(KW):
                        if uint32(top + kh) < uint32(height) and uint32(left + kw) < uint32(width):
                            bits = int32(bits | 1 << (kh * KW + kw))
            inside[e] = bits
        reads_at = int32((here + slab) * depth)
        packed_at = int32((here + slab) * left_size + 4 * thread)

        # Where this thread's rows and columns begin in shared memory, and where it puts what it brings.
        warp = quotient(thread, WARP)
        strip = quotient(warp, warp_columns)
        row = int32(strip * warp_height + row_in_warp(thread))
        column_of_thread = int32((warp - strip * warp_columns) * warp_width + column_in_warp(thread))
        to = int32(4 * thread)

        slabs = int32(end - slab)
        slab = int32(here + slab)
        works = int32(0)
        coming = int32(0)
        bit = int32(1 << strip)
        step = int32(-1)
        while step < slabs:
            # Slab `step` stands in one half of shared memory and is multiplied; slab `step + 1` comes to the other.
            side = int32((step & 1) * stage)
            other = int32(stage - side + to)
            fetch = int32(step + 1) < slabs
            if fetch:
                coming = load(busy, slab)
                slab = int32(slab + 1)
                for v in range(left_vectors):
                    weights[v, 0], weights[v, 1], weights[v, 2], weights[v, 3] = load4(
                        packed, packed_at + v * 4 * threads
                    )
                # Rows one after another: a loop written out would want the registers of two.
                for r in range(d, depth, row_stride):
                    channel = load(reads, int32(reads_at + r))
                    z0, z1, z2, z3 = z_of(x, taps, channel, corner, inside, plane, pitch, batch, z_relu)
                    store4(shared, int32(stage - side + left_size + r * columns + column), z0, z1, z2, z3)
                packed_at = int32(packed_at + left_size)
                reads_at = int32(reads_at + depth)
            if int32(works & bit) != 0:
                multiply(shared, int32(side + row), int32(side + left_size + column_of_thread), total)
            if fetch:
                works = coming
                for v in range(left_vectors):
                    at = other + v * 4 * threads
                    store4(shared, at, weights[v, 0], weights[v, 1], weights[v, 2], weights[v, 3])
                cuda.syncthreads()
            step = int32(step + 1)

        for j in range(0, thread_columns, VECTOR):
            column = int32(column_of_thread + j // 4 * COLUMN_STEP + j % 4)
            ho, wo, n = place_of(column, first_row, first_column, first_image, wide, images)
            is_there = ho < out_height and wo < out_width and n < batch
            target_column[j] = int32((ho * out_width + wo) * batch + n) if is_there else int32(-1)
        is_whole = splits == 1
        size = int32(out_height * out_width * batch)
        target_at = int32(t * tile + row)
        for i in range(thread_rows):
            target = load(rows, target_at + (i // 4 * ROW_STEP + i % 4))
            if target >= 0:
                offset = load(shift, target) if is_whole else zero
                at = int32((split * filters + target) * size)
                for j in range(thread_columns):
                    value = total[i, j] + offset
                    total[i, j] = zero if is_whole and relu and value <= 0 else value
                for j in range(0, thread_columns, VECTOR):
                    if target_column[j] >= 0:
                        there_at = int32(at + target_column[j])
                        if VECTOR == 4:
                            store4(y, there_at, total[i, j], total[i, j + 1], total[i, j + 2], total[i, j + 3])
                        else:
                            store(y, there_at, total[i, j])

    block.__name__ = block.__qualname__ = f"separable_{tile}x{columns}_{KH}x{KW}_lanes_{lanes}"
    # Two blocks of 256 threads on a multiprocessor, or four of 128.
    return cuda.jit(block, **launch.launch_bounds(threads, 512 // threads))


BLOCKS = {(name, *size): _block(SHAPES[name], *size) for name in TILES for size in Z_INSTRUCTIONS}


def serves(x, kernel):
    """Whether there are kernels for the dtype of x (C, H, W, N) and the size of the depthwise kernel."""
    return x.dtype == np.float32 and kernel in KERNELS


@cache
def patch_of(columns, size, batch, kernel, stride, lanes):
    """The Patch of `columns` columns for an output of `size` pixels (h, w): least cycles for a channel of all patches.

    A patch takes as many as it has columns for the multiply-adds of 128 filters; then its pixels come from the
    second-level cache, and a warp's load takes as many cycles as it touches lines of the first-level one. The columns
    of a vector (lanes 4) are images of one pixel.
    """
    bits = columns.bit_length() - 1
    best = None
    for images in range(lanes.bit_length() - 1, bits + 1):
        for wide in range(bits - images + 1):
            patch = Patch(bits - images - wide, wide, images)
            down, across, groups = patch.counts(*size, batch)
            read = [((1 << side) - 1) * step + taps for side, step, taps in zip(patch, stride, kernel)]
            fetched = read[0] * read[1] * max(4 << images, SECTOR)
            lines = kernel[0] * kernel[1] * (columns >> images) * launch.divide_up(4 << images, LINE)
            cycles = down * across * groups * (columns + fetched / CACHE_BYTES + lines)
            if best is None or cycles < best[0]:
                best = cycles, patch
    return best[1]


class Plan(NamedTuple):
    """How a problem is cut."""

    name: str  # of the tile shape
    patch: Patch
    splits: int  # parts of the panels


@cache
def plan_of(windows, size, batch, kernel, stride, lanes):
    """The Plan with the fewest instructions, over the part of the machine that works on them."""
    return min(
        (_planned(name, windows, size, batch, kernel, stride, lanes) for name in TILES), key=lambda pair: pair[0]
    )[1]


def _planned(name, windows, size, batch, kernel, stride, lanes):
    shape = SHAPES[name]
    panels = panels_of(windows, False, shape.tile, shape.depth)
    patch = patch_of(shape.columns, size, batch, kernel, stride, lanes)
    strips = int(np.prod(patch.counts(*size, batch)))
    threads = len(panels.rows) * strips * shape.threads
    splits = max(1, min(int(np.diff(panels.begin).min()) // LEAST_SLABS, WANTED_THREADS // threads))
    busy = busy_of(windows, False, shape.tile, shape.depth, shape.strip)
    products = done_of(busy, len(panels.sources), shape.tile // shape.strip) * shape.strip
    work = products * INSTRUCTIONS[name] + len(panels.sources) * Z_INSTRUCTIONS[kernel, lanes]
    work *= shape.depth * shape.columns * strips
    return work / min(1, threads * splits / WANTED_THREADS), Plan(name, patch, splits)


def forward(x, depthwise_stage, mixing_stage, y, windows, stride, padding):
    """y (O, HO, WO, N) from x (C, H, W, N); the stages as in separable.py. Two launches, three if panels are cut."""
    lanes = 4 if rows_aligned(x, y) else 1
    kernel = depthwise_stage.weight.shape[1:]
    filters, *size, batch = y.shape
    name, patch, splits = plan_of(windows, tuple(size), batch, kernel, stride, lanes)
    shape = SHAPES[name]
    cut = windows, False, shape.tile, shape.depth
    panels = panels_of(*cut)
    tiles = len(panels.rows)
    down, across, groups = patch.counts(*size, batch)
    taps, packed, shift = fold_and_pack(depthwise_stage, mixing_stage, windows, shape, pitch_of(kernel))
    sums = y if splits == 1 else launch.empty((splits, *y.shape), like=y)
    tables = [launch.table(each, x) for each in (reads_of(*cut), busy_of(*cut, shape.strip), panels.begin, panels.rows)]
    launch.blocks(
        BLOCKS[name, kernel, lanes],
        tiles * splits * down * across * groups,
        shape.threads,
        x,
        taps,
        packed,
        *tables,
        shift,
        sums,
        depthwise_stage.relu,
        mixing_stage.relu,
        tiles,
        splits,
        *patch,
        across,
        groups,
        filters,
        *x.shape[1:],
        *size,
        *stride,
        *padding,
    )
    if splits > 1:
        columns = y.size // filters
        add_splits(sums.reshape(splits, filters, columns), shift, y.reshape(filters, columns), mixing_stage.relu)


COMPILE = [
    launch.Build(
        kernel,
        "FFFIIIIFF" + "i" * 19,
        dtypes=("float32",),
        instructions=("FFMA", "LDS.128", "LDG.E.128", "STS.128", *(("STG.E.128",) if lanes == 4 else ())),
        registers=128,
    )
    for (_, _, lanes), kernel in BLOCKS.items()
]
