"""The weight gradient on tensor cores: operands as in scc_tensor.py, sums in float32, in a fixed order.

    dweight[f,tap] = sum_m dy[f,m] * x[c,m],  c = (start[f] + tap) mod C        and, if asked, dbias[f] = sum_m dy[f,m]

As in scc_tiles.py a block makes a tile of filters x `width` rows of its panel of channels, over one span of the columns
m, and stores the entries that lie inside windows; the spans' sums are added afterwards in their order. A span is every
so many-th slab of `depth` columns: blocks that run at the same time read neighbouring columns. How many spans there are
depends on the problem alone, never on the GPU, so the same inputs give the same bits.

dy (O, M), x (C, M), dweight (O, K), dbias (O,), float32 in memory. m is the axis along which both operands lie and
along which an mma adds up, so ldmatrix brings both to their registers: of float32, an 8x8 matrix of 16-bit elements is
8 rows x 4 numbers, and lane 4 r + q gets row r, number q. For bf16, numbers q and q + 4 of a row are rounded into one
word: not the order in which PTX numbers the columns, but the same for both operands, which is all that a sum needs.
Where a tile is so small that its entries keep too few warps busy, `sharers` warps make the same ones, each from its
part of a slab.

dbias costs no second reading of dy: the blocks of a tile's first panel rows add up the slabs of dy that they have in
shared memory, some threads a row.

Slabs pass through a ring as in scc_tensor.py, whose loader rules hold: 16-byte copies where M is a multiple of 4, else
4-byte copies. With rows of depth + 4 words, ldmatrix meets no bank conflict.

Floor: 4 (C + O) M bytes and 2 O K M operations, as for the forward pass. Measured on an H200, in us, the sums of spans
included (4 to 6 us), beside the register tiles, co 0.5:

    C    cg  M       TF32   TF32x3   register tiles
    64   2   262144  47.9    54.8    75.6
    128  2    65536  33.9    34.5    67.1
    128  4    65536  32.5    33.5    64.3
    256  2    32768  41.2    54.2    79.8
    512  2     8192  35.2    52.6    79.5
    512  2     2048  18.1    22.2    30.5

(`benchmarks/results/cuda-h200-tiles.json`.) What is left of TF32x3 is its arithmetic: with 64 and 128 channels and
tiles of 64 x 64 it took as long as with 512. Slower, or no faster, were a third stage and slabs of 16 columns.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numba import cuda as numba_cuda
from numba import types

from sccengine.kernels.cuda import launch
from sccengine.kernels.cuda.arguments import many_rows
from sccengine.kernels.cuda.indexing import quotient, wide_product
from sccengine.kernels.cuda.intrinsics import (
    ALIGNMENT,
    commit_copies,
    copy_async4,
    copy_async16,
    from_bits,
    ldmatrix_x4,
    load,
    load4,
    mma_bf16,
    mma_tf32,
    pack_bf16,
    shuffle_xor,
    store,
    thread_again,
    to_tf32,
    wait_copies_0,
)
from sccengine.kernels.cuda.launch import device_cuda as cuda
from sccengine.kernels.cuda.scc_pack import BF16, TF32, TF32X3
from sccengine.kernels.cuda.scc_register_shape import MULTIPROCESSORS, WANTED_THREADS
from sccengine.kernels.cuda.scc_register_sums import add_spans, sums_of
from sccengine.kernels.cuda.scc_tensor import KEPT_BACK
from sccengine.kernels.cuda.scc_tensor_split import SUMMED, add_products_tf32x3, split_tf32
from sccengine.kernels.cuda.scc_window import tap_of
from sccengine.kernels.cuda.unroll import static, unrolled
from sccengine.kernels.cuda.vectors import rows_aligned

int32 = types.int32
float32 = types.float32

STAGES = 2
AHEAD = STAGES - 1
WARP = 32
# More than a multiple of 32 words, the banks of shared memory, in a row of a slab.
PITCH = 4
# Warps that a multiprocessor holds.
WARPS = 16
# Spans are not made shorter than this.
SHORTEST = 16 if launch.SIMULATED else 256


class Shape(NamedTuple):
    """What a block and a warp make, in filters x panel rows, from slabs of `depth` columns."""

    tile: int
    width: int
    warp_rows: int
    warp_columns: int
    depth: int
    operands: str  # TF32, BF16 or TF32X3 (scc_pack.py)
    sharers: int = 1  # warps that make the same entries, each from its part of a slab's columns

    @property
    def threads(self):
        return WARP * (self.tile // self.warp_rows) * (self.width // self.warp_columns) * self.sharers

    @property
    def limits(self):
        """Options of @cuda.jit."""
        return launch.launch_bounds(self.threads, WARPS * WARP // self.threads)

    @property
    def shared(self):
        """Bytes of the ring, and of a number for each thread."""
        return 4 * (STAGES * (self.tile + self.width) * (self.depth + PITCH) + self.threads)

    @property
    def blocks(self):
        """How many blocks a problem is cut into, if it is long enough: as many as an H200 holds, whatever runs it."""
        room = launch.SHARED_MEMORY // (self.shared + KEPT_BACK)
        return 4 if launch.SIMULATED else MULTIPROCESSORS * min(room, WARPS * WARP // self.threads)

    @property
    def cycles(self):
        """Cycles of a multiprocessor for a column, as in scc_tensor.py."""
        mma = self.tile * self.width / {BF16: 2048, TF32: 1024, TF32X3: 1024 / 3}[self.operands]
        read = self.threads // WARP * (self.warp_rows + self.warp_columns)
        return max(mma * 6.5 / 4, (read + self.tile + self.width) * 4 / 128)


# By the name of the variant, as in scc_tensor.py.
GPU_SHAPES = {
    "tf32_64x64": Shape(64, 64, 32, 32, 32, TF32),
    "tf32_64x128": Shape(64, 128, 32, 32, 32, TF32),
    "bf16_64x64": Shape(64, 64, 32, 32, 32, BF16),
    "bf16_64x128": Shape(64, 128, 32, 32, 32, BF16),
    "tf32x3_32x128": Shape(32, 64, 32, 32, 32, TF32X3, 2),
    "tf32x3_64x64": Shape(64, 64, 32, 32, 32, TF32X3),
}
SIMULATOR_SHAPES = {
    "tf32_64x64": Shape(16, 32, 16, 16, 16, TF32),
    "tf32_64x128": Shape(32, 32, 16, 32, 16, TF32),
    "bf16_64x64": Shape(32, 16, 32, 16, 16, BF16),
    "bf16_64x128": Shape(16, 32, 16, 32, 32, BF16),
    "tf32x3_32x128": Shape(16, 16, 16, 16, 32, TF32X3, 2),
    "tf32x3_64x64": Shape(16, 32, 16, 16, 16, TF32X3),
}
SHAPES = SIMULATOR_SHAPES if launch.SIMULATED else GPU_SHAPES


def _multiplication(shape):
    """The device function multiply(ring, a_at, b_at, total): a warp's share of one slab."""
    blocks = shape.warp_rows // 16
    pairs = shape.warp_columns // 16
    pitch = shape.depth + PITCH
    steps = shape.depth // shape.sharers // (16 if shape.operands == BF16 else 8)

    @numba_cuda.jit(device=True)
    @unrolled
    def multiply_tf32(ring, a_at, b_at, total):
        b = cuda.local.array((pairs, 4), np.uint32)
        for step in static(steps):
            for j in range(pairs):
                z = ldmatrix_x4(ring, b_at + j * 16 * pitch + 8 * step)
                for e in static(4):
                    b[j, e] = to_tf32(from_bits(z[e]))
            for i in range(blocks):
                z = ldmatrix_x4(ring, a_at + i * 16 * pitch + 8 * step)
                a0 = to_tf32(from_bits(z[0]))
                a1 = to_tf32(from_bits(z[1]))
                a2 = to_tf32(from_bits(z[2]))
                a3 = to_tf32(from_bits(z[3]))
                for j in range(pairs):
                    for side in range(2):
                        c = total[i, j, side]
                        c[0], c[1], c[2], c[3] = mma_tf32(
                            a0, a1, a2, a3, b[j, 2 * side], b[j, 2 * side + 1], c[0], c[1], c[2], c[3]
                        )

    @numba_cuda.jit(device=True)
    @unrolled
    def multiply_bf16(ring, a_at, b_at, total):
        b = cuda.local.array((pairs, 4), np.uint32)
        for step in static(steps):
            for j in range(pairs):
                z = ldmatrix_x4(ring, b_at + j * 16 * pitch + 16 * step)
                w = ldmatrix_x4(ring, b_at + j * 16 * pitch + 16 * step + 8)
                b[j, 0] = pack_words(z[0], z[1])
                b[j, 1] = pack_words(w[0], w[1])
                b[j, 2] = pack_words(z[2], z[3])
                b[j, 3] = pack_words(w[2], w[3])
            for i in range(blocks):
                z = ldmatrix_x4(ring, a_at + i * 16 * pitch + 16 * step)
                w = ldmatrix_x4(ring, a_at + i * 16 * pitch + 16 * step + 8)
                a0 = pack_words(z[0], z[2])
                a1 = pack_words(z[1], z[3])
                a2 = pack_words(w[0], w[2])
                a3 = pack_words(w[1], w[3])
                for j in range(pairs):
                    for side in range(2):
                        c = total[i, j, side]
                        c[0], c[1], c[2], c[3] = mma_bf16(
                            a0, a1, a2, a3, b[j, 2 * side], b[j, 2 * side + 1], c[0], c[1], c[2], c[3]
                        )

    @numba_cuda.jit(device=True)
    @unrolled
    def multiply_tf32x3(ring, a_at, b_at, total):
        a = cuda.local.array((SUMMED, 4), np.uint32)
        a_rest = cuda.local.array((SUMMED, 4), np.uint32)
        b = cuda.local.array((pairs, SUMMED, 4), np.uint32)
        b_rest = cuda.local.array((pairs, SUMMED, 4), np.uint32)
        for first in static(0, steps, SUMMED):
            for j in range(pairs):
                for step in static(SUMMED):
                    z = ldmatrix_x4(ring, b_at + j * 16 * pitch + 8 * (first + step))
                    for e in static(4):
                        b[j, step, e], b_rest[j, step, e] = split_tf32(from_bits(z[e]))
            for i in range(blocks):
                for step in static(SUMMED):
                    z = ldmatrix_x4(ring, a_at + i * 16 * pitch + 8 * (first + step))
                    for e in static(4):
                        a[step, e], a_rest[step, e] = split_tf32(from_bits(z[e]))
                for j in range(pairs):
                    for side in range(2):
                        add_products_tf32x3(a, a_rest, b[j], b_rest[j], 2 * side, total[i, j, side])

    return {TF32: multiply_tf32, BF16: multiply_bf16, TF32X3: multiply_tf32x3}[shape.operands]


@numba_cuda.jit(device=True)
def pack_words(low, high):
    """Two float32 words as two bf16 in one."""
    return pack_bf16(from_bits(low), from_bits(high))


def band_kernel(shape):
    """The kernel of one Shape."""
    tile, width, warp_rows, warp_columns, depth, operands, sharers = shape
    row_warps = tile // warp_rows
    tile_warps = row_warps * (width // warp_columns)
    blocks = warp_rows // 16
    pairs = warp_columns // 16
    pitch = depth + PITCH
    stage_words = (tile + width) * pitch
    # A thread copies 16 bytes at a time, from rows `row_step` apart.
    row_copies = depth // 4
    row_step = shape.threads // row_copies
    left_copies = tile // row_step
    right_copies = width // row_step
    # How many threads add up a row of a slab of dy, neighbours in a warp.
    adders = shape.threads // tile
    sums_at = STAGES * stage_words
    multiply = _multiplication(shape)

    @numba_cuda.jit(device=True)
    def copy(ring, to, source, read, m, piece, M, aligned):
        """Copies this thread's part of a slab that begins at column m, from the rows `read` (-1: zeros)."""
        if aligned:
            column = int32(m + 4 * piece)
            is_inside = column < M
            for v in range(len(read)):
                is_read = read[v] >= 0 and is_inside
                at = wide_product(max(read[v], int32(0)), M) + column
                copy_async16(
                    ring, int32(to + 4 * piece) + v * row_step * pitch, source, at, int32(16 if is_read else 0)
                )
        else:
            for u in range(4):
                column = int32(m + piece + u * row_copies)
                is_inside = column < M
                for v in range(len(read)):
                    is_read = read[v] >= 0 and is_inside
                    at = wide_product(max(read[v], int32(0)), M) + column
                    place = v * row_step * pitch + u * row_copies
                    copy_async4(ring, int32(to + piece) + place, source, at, int32(4 if is_read else 0))

    @numba_cuda.jit(device=True)
    @unrolled
    def add_row(ring, stage):
        """Adds this thread's part of a row of the slab of dy at ring[stage:] to its number after the ring."""
        thread = thread_again()
        row = quotient(thread, adders)
        at = int32(stage + row * pitch + (thread - row * adders) * (depth // adders))
        result = load(ring, sums_at + thread)
        for n in static(depth // adders // 4):
            v = load4(ring, int32(at + 4 * n))
            result += (v[0] + v[1]) + (v[2] + v[3])
        store(ring, sums_at + thread, result)

    @numba_cuda.jit(device=True)
    def put(total, ring, place):
        """Stores this lane's sums where `add` finds them."""
        for i in range(blocks):
            for j in range(pairs):
                for side in range(2):
                    for part in range(4):
                        store(ring, place + (((i * pairs + j) * 2 + side) * 4 + part) * WARP, total[i, j, side, part])

    @numba_cuda.jit(device=True)
    def add(total, ring, place):
        for i in range(blocks):
            for j in range(pairs):
                for side in range(2):
                    for part in range(4):
                        total[i, j, side, part] += load(ring, place + (((i * pairs + j) * 2 + side) * 4 + part) * WARP)

    @unrolled
    def band(
        dy,  # (O, M)
        x,  # (C, M)
        starts,  # (O,)
        rows,  # (tiles, tile): the filters of a tile, -1 where it is not full
        panel,  # (R,): channels
        first,  # (tiles,): a tile's filters read panel[first : first + length]
        length,  # (tiles,)
        sums,  # (spans, size): dweight (O, K) of each span, and after it dbias (O,) if adds_dbias
        adds_dbias,
        size,
        aligned,  # whether rows of dy and x begin at multiples of 16 bytes
        slabs,  # of all blocks together
        O,
        C,
        K,
        M,
    ):
        ring = cuda.shared.array(0, float32, ALIGNMENT)
        total = cuda.local.array((blocks, pairs, 2, 4), float32)
        for i in range(blocks):
            for j in range(pairs):
                for side in range(2):
                    for part in range(4):
                        total[i, j, side, part] = 0

        t = int32(cuda.blockIdx.y)
        p0 = int32(cuda.blockIdx.x * width)
        reads = load(length, t)
        if p0 >= reads:
            return
        here = load(first, t)
        thread = int32(cuda.threadIdx.x)
        lane = int32(thread & 31)
        warp = quotient(thread, WARP)
        sharer = quotient(warp, tile_warps)
        warp = int32(warp - sharer * tile_warps)
        warp_column = quotient(warp, row_warps)
        warp_row = int32((warp - warp_column * row_warps) * warp_rows)
        warp_column = int32(warp_column * warp_columns)

        copy_row = quotient(thread, row_copies)
        piece = int32(thread - copy_row * row_copies)
        left = cuda.local.array(left_copies, int32)
        right = cuda.local.array(right_copies, int32)
        for v in range(left_copies):
            left[v] = load(rows, int32(t * tile + copy_row) + v * row_step)
        for v in range(right_copies):
            p = int32(p0 + copy_row + v * row_step)
            right[v] = load(panel, int32(here + p)) if p < reads else -1

        # Which row of 16 and which four of its numbers this lane hands to ldmatrix: rows of matrices 0, 1, 2, 3 are
        # for dy 0-7, 8-15, 0-7, 8-15 (numbers 0-3, 0-3, 4-7, 4-7), for x 0-7, 0-7, 8-15, 8-15 (0-3, 4-7, 0-3, 4-7).
        begin = int32(sharer * (depth // sharers))
        a_at = int32((warp_row + (lane & 15)) * pitch + 4 * (lane >> 4) + begin)
        b_at = int32((tile + warp_column + (lane & 7) + 8 * (lane >> 4)) * pitch + 4 * (lane >> 3 & 1) + begin)

        adds_dbias = adds_dbias and p0 == 0
        store(ring, sums_at + thread, float32(0))
        # Blocks of neighbouring slabs run at the same time, so that they share the pages of DRAM.
        m = int32(cuda.blockIdx.z * depth)
        slabs = quotient(int32(slabs + cuda.gridDim.z - 1 - cuda.blockIdx.z), cuda.gridDim.z)
        stage = int32(0)
        now = int32(-AHEAD)
        while now < slabs:
            if now >= 0:
                wait_copies_0()
                cuda.syncthreads()
            thread = thread_again()
            copy_row = quotient(thread, row_copies)
            piece = int32(thread - copy_row * row_copies)
            if int32(now + AHEAD) < slabs:
                to = int32(stage + copy_row * pitch)
                copy(ring, to, dy, left, m, piece, M, aligned)
                copy(ring, int32(to + tile * pitch), x, right, m, piece, M, aligned)
                m = int32(m + cuda.gridDim.z * depth)
            commit_copies()
            # The stage after the one that was filled is the one that was filled AHEAD slabs ago.
            stage = int32(stage + stage_words if stage < AHEAD * stage_words else 0)
            if now >= 0:
                multiply(ring, int32(stage + a_at), int32(stage + b_at), total)
                if adds_dbias:
                    add_row(ring, stage)
            now = int32(now + 1)

        if adds_dbias:
            thread = thread_again()
            dy_sum = load(ring, sums_at + thread)
            lanes = adders >> 1
            while lanes > 0:
                dy_sum += shuffle_xor(dy_sum, lanes)
                lanes = lanes >> 1
            row = quotient(thread, adders)
            f = load(rows, int32(t * tile + row))
            if f >= 0 and thread == row * adders:
                store(sums, int32(cuda.blockIdx.z * size + O * K + f), dy_sum)

        if sharers > 1:
            # The first of the warps that share their entries adds up what the others have, in their order.
            cuda.syncthreads()
            place = int32(warp * WARP * 8 * blocks * pairs + lane)
            if sharer > 0:
                put(total, ring, int32(place + (sharer - 1) * tile * width))
            cuda.syncthreads()
            if sharer > 0:
                return
            for other in range(sharers - 1):
                add(total, ring, int32(place + other * tile * width))

        r = int32(lane >> 2)
        q = int32(lane & 3)
        for i in static(blocks):
            for half in range(2):
                f = load(rows, int32(t * tile + warp_row + r) + 16 * i + 8 * half)
                if f >= 0:
                    start = load(starts, f)
                    at = int32(cuda.blockIdx.z * size + f * K)
                    for j in range(pairs):
                        for side in range(2):
                            for odd in range(2):
                                p = int32(p0 + warp_column + 2 * q + 16 * j + 8 * side + odd)
                                if p < reads:
                                    tap = int32(tap_of(start, load(panel, int32(here + p)), C))
                                    if tap < K:
                                        store(sums, int32(at + tap), total[i, j, side, 2 * half + odd])

    band.__name__ = band.__qualname__ = f"band_{operands}_{tile}x{width}" + ("_shared" if sharers > 1 else "")
    return many_rows(numba_cuda.jit(band, **shape.limits))


BAND = {shape: band_kernel(shape) for shape in dict.fromkeys(SHAPES.values())}


@cache
def spans_of(windows, variant, columns):
    """(into how many spans the columns are cut, of how many slabs they are)."""
    shape = SHAPES[variant]
    tiles = windows.tiles(shape.tile)
    blocks = tiles.count * launch.divide_up(int(tiles.length.max()), shape.width)
    slabs = max(1, launch.divide_up(columns, shape.depth))  # of no columns: one of zeros
    spans = max(1, min(shape.blocks // blocks, columns // SHORTEST))
    return launch.divide_up(slabs, launch.divide_up(slabs, spans)), slabs


def work(windows, variant, columns):
    """Cycles for all columns, over the part of the machine that works on them."""
    shape = SHAPES[variant]
    blocks = int(np.ceil(windows.tiles(shape.tile).length / shape.width).sum())
    threads = blocks * spans_of(windows, variant, columns)[0] * shape.threads
    return blocks * columns * shape.cycles / min(1, threads / WANTED_THREADS)


def backward_weight(dy, x, dweight, windows, variant, dbias=None):
    """dweight (O, K), and dbias (O,) unless it is None, from dy (O, M) and x (C, M)."""
    shape = SHAPES[variant]
    tiles = windows.tiles(shape.tile)
    columns = x.shape[1]
    spans, slabs = spans_of(windows, variant, columns)
    sums = sums_of(spans, dweight, dbias)
    tables = windows.starts, tiles.rows, tiles.panel, tiles.first, tiles.length
    launch.blocks(
        BAND[shape],
        (launch.divide_up(int(tiles.length.max()), shape.width), tiles.count, spans),
        shape.threads,
        dy,
        x,
        *[launch.table(each, x) for each in tables],
        sums,
        dbias is not None,
        sums.size // spans,
        rows_aligned(dy, x),
        slabs,
        windows.out_channels,
        windows.in_channels,
        windows.width,
        columns,
        shared=shape.shared,
    )
    add_spans(sums, dweight, dbias)


COMPILE = [
    launch.Build(
        kernel,
        "FFIIIIIFiiiiiiii",
        dtypes=("float32",),
        since=(8, 0),
        instructions=("HMMA", "LDSM", "LDGSTS.E.BYPASS.128"),
        registers=128,
    )
    for kernel in BAND.values()
]
