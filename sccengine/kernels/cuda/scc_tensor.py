"""The contraction and its transpose on tensor cores: TF32 or bf16 operands, or pairs of TF32 that make up a float32.

    y[f,m] = bias[f] + sum over the rows d of a tile's panel of W(f,d) * x[panel[d],m]          (then ReLU, if asked)

as in scc_tiles.py: filters sorted by start in tiles whose windows overlap, dx being the same kernel over tiles of
channels. W comes packed (scc_pack.py). x (C, M), weight (O, K), y (O, M), float32 in memory; sums in float32.

A block makes a tile of rows in one span of `columns` columns after another, its warps warp_rows x 32 columns each, in
accumulators of 16 x 8. Slabs of x and of W pass through a ring of STAGES in shared memory, filled by asynchronous
copies one slab ahead, one barrier a slab; the first slab of a block's next span is on its way while it multiplies and
stores the last, so that reading, multiplying and storing overlap. W for TF32x3, twice as large, stays in shared memory
from the first span on where a multiprocessor has room for all of the tile's panel without holding fewer blocks. Rows of
x are read 16 bytes at a time where M is a multiple of 4, else 4 bytes at a time into the same ring, so nothing after
the loader knows the difference; past the ends of the panel and of M copies fill with zeros.

x is the first operand of an mma, 16 columns m x 8 (TF32) or 16 (bf16) rows d, and W the second, d x 8 filters. An mma
takes its operands from neighbouring registers, so loads must bring together what belongs together: a lane's four
weights lie together in the packed W, and its two columns for rows r and r + 8 of an mma are neighbours in x. Which
columns these are may be chosen. A lane has the columns 4 r to 4 r + 3 of a warp's 32, two for each of two mma, and
stores them 16 bytes at a time; which two come first changes from one r to the next, so that together with bits 2 and 4
of a column, turned over by the row's number modulo 4, a load of 8 bytes meets no bank conflict. (With loads of
16 bytes nearly half of the instructions of a slab's product were moves.)

bf16 is rounded on the way from shared memory to the tensor cores, and x stays float32 in memory. Converted copies would
move more through DRAM: 10 bytes an element of x and of dy in a training step (4 read, 2 written, 2 read by each of two
passes) against 8 (4 read by each of two). TF32x3 (scc_tensor_split.py) takes three products for one.

Floor: the larger of 4 (C + O) M bytes at 4.8 TB/s and 2 O K M operations at the unit's rate: on an H200 495 (TF32) and
990 TFLOP/s (bf16), of which mma.sync, used here, is good for some 60 %. Measured there, in us, packing W included (some
3 us), beside a copy of x to y and the register tiles, co 0.5:

    C    cg  M       copy   TF32   TF32x3   register tiles
    64   2   262144  34.4   43.7    48.0    65.9
    64   8   262144  34.6   43.7    47.6    61.7
    128  2    65536  18.6   28.4    32.8    44.8
    128  4    65536  18.6   27.8    27.5    39.3
    256  2    32768  18.6   31.3    51.4    65.7
    512  2     8192   6.8   23.9    47.8    58.7
    512  2     2048   3.1   12.8    18.7    27.7

(`benchmarks/results/cuda-h200-tiles.json`, which has the shapes and what differs from this file.) A block that reads
and writes as these do and computes nothing takes 36.6 at C = 64. Slower, or no faster, were a third stage, other
numbers of blocks, tiles of 128 rows, warps of 16 columns (fewer instructions, but stores of 8 bytes), sums of single
steps in TF32x3, and packing W in each block instead of before. Hopper's wgmma, for which Numba can compile (capability
(9, 0, "a")), is not used: for TF32 only W could come from shared memory, and x would pass through registers as here.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import cuda as numba_cuda
from numba import types

from sccengine.kernels.cuda import launch
from sccengine.kernels.cuda.arguments import many_rows
from sccengine.kernels.cuda.indexing import quotient, wide_product
from sccengine.kernels.cuda.intrinsics import (
    ALIGNMENT,
    bits,
    commit_copies,
    copy_async4,
    copy_async16,
    load,
    load2,
    load4,
    max_nan,
    mma_bf16,
    mma_tf32,
    pack_bf16,
    store,
    store4,
    thread_again,
    to_tf32,
    wait_copies_0,
)
from sccengine.kernels.cuda.launch import device_cuda as cuda
from sccengine.kernels.cuda.scc_pack import BF16, PIECE, TF32, TF32X3, Panels, pack, panels_of, slab_words
from sccengine.kernels.cuda.scc_register_shape import MULTIPROCESSORS
from sccengine.kernels.cuda.scc_tensor_split import SUMMED, add_products_tf32x3, split_tf32
from sccengine.kernels.cuda.unroll import static, unrolled
from sccengine.kernels.cuda.vectors import rows_aligned

int32 = types.int32
float32 = types.float32

MINUS_INFINITY = np.float32(-np.inf)
# The least compute capability.
SINCE = (8, 0)
STAGES = 2
AHEAD = STAGES - 1
WARP = 32
# Columns that a warp makes, in strips of 16.
WARP_COLUMNS = 32
STRIPS = WARP_COLUMNS // 16
# Bytes of shared memory that a multiprocessor keeps of each block for itself.
KEPT_BACK = 1024


class Shape(NamedTuple):
    """What a block makes, in rows x columns of the result, and a warp, from slabs of `depth` panel rows."""

    tile: int
    columns: int
    warp_rows: int
    depth: int
    operands: str  # TF32, BF16 or TF32X3 (scc_pack.py)
    held: int  # blocks that a multiprocessor is to hold

    @property
    def threads(self):
        return WARP * (self.tile // self.warp_rows) * (self.columns // WARP_COLUMNS)

    @property
    def limits(self):
        """Options of @cuda.jit."""
        return launch.launch_bounds(self.threads, self.held)

    @property
    def blocks(self):
        """How many blocks all multiprocessors hold; more only wait for each other."""
        return 3 if launch.SIMULATED else MULTIPROCESSORS * self.held

    @property
    def words(self):
        """float32 words of a slab of W."""
        return slab_words(self.tile, self.depth, self.operands)

    def shared(self, slabs):
        """Bytes of shared memory for so many slabs of W and the ring of x."""
        return 4 * (slabs * self.words + STAGES * self.depth * self.columns)

    def keeps(self, slabs, room):
        """Whether W stays: in a multiprocessor's `room` as many blocks fit with all its slabs as with the ring's.

        Rounded operands come anew with each span, which was no slower, and a block need not wait for all of them.
        """
        if self.operands != TF32X3:
            return False
        blocks = min(self.held, room // (self.shared(STAGES) + KEPT_BACK))
        return self.shared(slabs) + KEPT_BACK <= room // max(blocks, 1)


# By the name of the variant. The fewer rows, the fewer of the panel's weights are zeros, the smaller both sides, the
# more blocks a small problem has; the larger, the less is read again.
GPU_SHAPES = {
    "tf32_64x64": Shape(64, 64, 32, 32, TF32, 5),
    "tf32_64x128": Shape(64, 128, 64, 32, TF32, 4),
    "bf16_64x64": Shape(64, 64, 32, 32, BF16, 6),
    "bf16_64x128": Shape(64, 128, 64, 32, BF16, 4),
    "tf32x3_32x128": Shape(32, 128, 32, 16, TF32X3, 4),
    "tf32x3_64x64": Shape(64, 64, 32, 32, TF32X3, 4),
}
# The simulator's threads are Python threads: one or two warps there.
SIMULATOR_SHAPES = {
    "tf32_64x64": Shape(16, 32, 16, 32, TF32, 3),
    "tf32_64x128": Shape(32, 32, 16, 16, TF32, 3),
    "bf16_64x64": Shape(16, 32, 16, 16, BF16, 3),
    "bf16_64x128": Shape(16, 64, 16, 32, BF16, 3),
    "tf32x3_32x128": Shape(16, 32, 16, 16, TF32X3, 3),
    "tf32x3_64x64": Shape(32, 32, 32, 32, TF32X3, 3),
}
SHAPES = SIMULATOR_SHAPES if launch.SIMULATED else GPU_SHAPES
# Cycles of a multiprocessor for a block's slab on an H200, from the times above: where it holds as many blocks as it
# can, and where it has one, which waits for its copies.
FULL = {
    "tf32_64x64": 840,
    "tf32_64x128": 1640,
    "bf16_64x64": 760,
    "bf16_64x128": 1500,
    "tf32x3_32x128": 750,
    "tf32x3_64x64": 1400,
}
ALONE = {
    "tf32_64x64": 2100,
    "tf32_64x128": 2320,
    "bf16_64x64": 1900,
    "bf16_64x128": 2000,
    "tf32x3_32x128": 1880,
    "tf32x3_64x64": 3440,
}
# Words of weights that all of it packs in a cycle, beyond what a launch takes.
PACKED = 95


def _multiplication(shape):
    """The device function multiply(ring, x_at, w_at, total): a warp's share of one slab."""
    blocks = shape.warp_rows // 16
    columns = shape.columns
    steps = shape.depth // (16 if shape.operands == BF16 else 8)

    @numba_cuda.jit(device=True)
    @unrolled
    def multiply_tf32(ring, x_at, w_at, total):
        x = cuda.local.array((STRIPS, 4), np.uint32)
        for step in static(steps):
            for half in static(2):
                for s in static(STRIPS):
                    v = load2(ring, (x_at ^ 2 * s) + (8 * step + 4 * half) * columns)
                    x[s, 2 * half] = to_tf32(v[0])
                    x[s, 2 * half + 1] = to_tf32(v[1])
            for i in range(blocks):
                w = load4(ring, w_at + (i * steps + step) * PIECE)
                for s in range(STRIPS):
                    a = x[s]
                    c = total[i, 0, s]
                    c[0], c[1], c[2], c[3] = mma_tf32(
                        a[0], a[1], a[2], a[3], bits(w[0]), bits(w[1]), c[0], c[1], c[2], c[3]
                    )
                    c = total[i, 1, s]
                    c[0], c[1], c[2], c[3] = mma_tf32(
                        a[0], a[1], a[2], a[3], bits(w[2]), bits(w[3]), c[0], c[1], c[2], c[3]
                    )

    @numba_cuda.jit(device=True)
    @unrolled
    def multiply_bf16(ring, x_at, w_at, total):
        x = cuda.local.array((STRIPS, 4), np.uint32)
        for step in static(steps):
            for half in static(2):
                for s in static(STRIPS):
                    low = load2(ring, (x_at ^ 2 * s) + (16 * step + 8 * half) * columns)
                    high = load2(ring, (x_at ^ 2 * s) + (16 * step + 8 * half + 4) * columns)
                    x[s, 2 * half] = pack_bf16(low[0], high[0])
                    x[s, 2 * half + 1] = pack_bf16(low[1], high[1])
            for i in range(blocks):
                w = load4(ring, w_at + (i * steps + step) * PIECE)
                for s in range(STRIPS):
                    a = x[s]
                    c = total[i, 0, s]
                    c[0], c[1], c[2], c[3] = mma_bf16(
                        a[0], a[1], a[2], a[3], bits(w[0]), bits(w[1]), c[0], c[1], c[2], c[3]
                    )
                    c = total[i, 1, s]
                    c[0], c[1], c[2], c[3] = mma_bf16(
                        a[0], a[1], a[2], a[3], bits(w[2]), bits(w[3]), c[0], c[1], c[2], c[3]
                    )

    @numba_cuda.jit(device=True)
    @unrolled
    def multiply_tf32x3(ring, x_at, w_at, total):
        x = cuda.local.array((STRIPS, SUMMED, 4), np.uint32)
        rest = cuda.local.array((STRIPS, SUMMED, 4), np.uint32)
        w = cuda.local.array((SUMMED, 4), np.uint32)
        w_rest = cuda.local.array((SUMMED, 4), np.uint32)
        for first in static(0, steps, SUMMED):
            for step in static(SUMMED):
                for half in static(2):
                    for s in static(STRIPS):
                        v = load2(ring, (x_at ^ 2 * s) + (8 * (first + step) + 4 * half) * columns)
                        for e in static(2):
                            x[s, step, 2 * half + e], rest[s, step, 2 * half + e] = split_tf32(v[e])
            for i in range(blocks):
                for step in static(SUMMED):
                    at = w_at + (i * steps + first + step) * 2 * PIECE
                    v = load4(ring, at)
                    v_rest = load4(ring, at + PIECE)
                    for e in static(4):
                        w[step, e] = bits(v[e])
                        w_rest[step, e] = bits(v_rest[e])
                for pair in range(2):
                    for s in range(STRIPS):
                        add_products_tf32x3(x[s], rest[s], w, w_rest, 2 * pair, total[i, pair, s])

    return {TF32: multiply_tf32, BF16: multiply_bf16, TF32X3: multiply_tf32x3}[shape.operands]


@numba_cuda.jit(device=True)
def store_four(result, at, y0, y1, y2, y3, count, aligned):
    """Stores the first `count` of four numbers to result[at:]; aligned: all of them."""
    if aligned:
        store4(result, at, y0, y1, y2, y3)
    else:
        store(result, at, y0)
        if count > 1:
            store(result, at + 1, y1)
        if count > 2:
            store(result, at + 2, y2)
        if count > 3:
            store(result, at + 3, y3)


def contraction(name, shape):
    """The kernel of one Shape."""
    tile, columns, warp_rows, depth, operands, _ = shape
    threads = shape.threads
    row_warps = tile // warp_rows
    blocks = warp_rows // 16
    words = shape.words
    stage_words = depth * columns
    # A thread copies 16 bytes at a time: of W as they lie, of x in rows `row_step` apart, a multiple of 4.
    weight_copies = words // 4 // threads
    row_copies = columns // 4
    row_step = threads // row_copies
    value_copies = depth // row_step
    multiply = _multiplication(shape)

    @numba_cuda.jit(device=True)
    def copy_weights(ring, place, packed, slab):
        """Copies this thread's part of a slab of W to the slab `place` of shared memory."""
        thread = thread_again()
        to = int32(place * words + 4 * thread)
        at = int32(slab * words + 4 * thread)
        for v in range(weight_copies):
            copy_async16(ring, to + v * 4 * threads, packed, at + v * 4 * threads, 16)

    @numba_cuda.jit(device=True)
    @unrolled
    def copy_values(ring, to, turn, source, read, m0, copy_column, M, aligned):
        """Copies this thread's part of the rows `read` of a slab of x (-1: zeros), from column m0 on, to ring[to:].

        turn: the bits of a column that are turned over in these rows.
        """
        if aligned:
            m = int32(m0 + 4 * copy_column)
            is_inside = m < M
            to = int32(to + (4 * copy_column ^ turn))
            for v in range(value_copies):
                at = wide_product(max(read[v], int32(0)), M) + (m if is_inside else int32(0))
                count = int32(16 if read[v] >= 0 and is_inside else 0)
                copy_async16(ring, to + v * row_step * columns, source, at, count)
        else:
            for v in range(value_copies):
                for u in range(4):
                    column = int32(copy_column + u * row_copies)
                    is_read = read[v] >= 0 and m0 + column < M
                    at = wide_product(read[v] if is_read else int32(0), M) + (m0 + column if is_read else 0)
                    place = int32(to + (column ^ turn)) + v * row_step * columns
                    copy_async4(ring, place, source, at, int32(4 if is_read else 0))

    @numba_cuda.jit(device=True)
    @unrolled
    def store_tile(total, rows, row_at, bias, result, m, swapped, M, has_bias, relu, aligned):
        """Stores this lane's sums, of rows[row_at], ... and the four columns from m on, and sets them to zero."""
        row = cuda.local.array(4, int32)
        offset = cuda.local.array(4, float32)
        least = float32(0) if relu else MINUS_INFINITY
        for i in static(blocks):
            # All are looked up before the first is needed.
            for pair in range(2):
                row[2 * pair], row[2 * pair + 1] = load2(rows, row_at + (16 * i + 8 * pair))
            for n in range(4):
                offset[n] = load(bias, max(row[n], int32(0))) if has_bias else float32(0)
            for pair in range(2):
                low, high = total[i, pair, 0], total[i, pair, 1]
                for side in range(2):
                    n = 2 * pair + side
                    y0 = max_nan((high[side] if swapped else low[side]) + offset[n], least)
                    y1 = max_nan((high[2 + side] if swapped else low[2 + side]) + offset[n], least)
                    y2 = max_nan((low[side] if swapped else high[side]) + offset[n], least)
                    y3 = max_nan((low[2 + side] if swapped else high[2 + side]) + offset[n], least)
                    if row[n] >= 0 and m < M:
                        store_four(result, wide_product(row[n], M) + m, y0, y1, y2, y3, int32(M - m), aligned)
                    for s in range(STRIPS):
                        total[i, pair, s, side] = 0
                        total[i, pair, s, 2 + side] = 0

    @unrolled
    def contract(
        source,  # (C, M) x; transposed: (O, M) dy
        packed,  # (slabs, words)
        bias,  # (O,), read only if has_bias
        rows,  # (tiles, tile): the rows of result that a tile makes, -1 where it is not full
        begin,  # (tiles + 1,): the slabs of a tile
        sources,  # (slabs, depth): the rows of source that a slab reads, -1 past the end of a panel
        result,  # (O, M) y; transposed: (C, M) dx
        has_bias,
        relu,
        aligned,  # whether rows of source and result begin at multiples of 16 bytes
        keeps,  # whether there is room for all slabs of a tile's W, which stay then, or for STAGES of them
        ring_at,  # where in shared memory the ring of x begins, in words; W is before it
        spans,  # of columns
        M,
    ):
        ring = cuda.shared.array(0, float32, ALIGNMENT)
        total = cuda.local.array((blocks, 2, STRIPS, 4), float32)
        for i in range(blocks):
            for pair in range(2):
                for s in range(STRIPS):
                    for part in range(4):
                        total[i, pair, s, part] = 0

        thread = int32(cuda.threadIdx.x)
        lane = int32(thread & 31)
        r = int32(lane >> 2)
        q = int32(lane & 3)
        warp = quotient(thread, WARP)
        warp_column = quotient(warp, row_warps)
        warp_row = int32((warp - warp_column * row_warps) * warp_rows)
        warp_column = int32(warp_column * WARP_COLUMNS)
        w_at = int32(warp_row * (words // tile) + 4 * lane)
        x_at = int32(ring_at + q * columns + warp_column + ((4 * r + 2 * (r & 1)) ^ (4 * (q & 1) + 16 * (q >> 1))))
        read = cuda.local.array(value_copies, int32)

        # Blocks of the same columns are neighbours, so that only the first of them asks DRAM for x.
        tile_begin = load(begin, int32(cuda.blockIdx.x))
        slabs = int32(load(begin, int32(cuda.blockIdx.x) + 1) - tile_begin)
        # The span that is multiplied and the one that is copied, and the slab of each that is next; below zero while
        # the first are copied.
        span = int32(cuda.blockIdx.y)
        slab = int32(-AHEAD)
        coming = span
        ahead = int32(0)

        if keeps:
            for n in range(slabs):
                copy_weights(ring, int32(n), packed, int32(tile_begin + n))
        stage = int32(0)
        while span < spans:
            fetch = coming < spans
            thread = thread_again()
            copy_row = quotient(thread, row_copies)
            copy_column = int32(thread - copy_row * row_copies)
            if fetch:
                # The rows to be copied are looked up before the wait, and have come after it.
                at = int32((tile_begin + ahead) * depth + copy_row)
                for v in range(value_copies):
                    read[v] = load(sources, at + v * row_step)
            if slab >= 0:
                wait_copies_0()
                cuda.syncthreads()
            if fetch:
                if not keeps:
                    copy_weights(ring, stage, packed, int32(tile_begin + ahead))
                to = int32(ring_at + stage * stage_words + copy_row * columns)
                turn = int32(4 * (copy_row & 1) + 8 * (copy_row & 2))
                copy_values(ring, to, turn, source, read, int32(coming * columns), copy_column, M, aligned)
                ahead = int32(ahead + 1)
                if ahead == slabs:
                    ahead = int32(0)
                    coming = int32(coming + cuda.gridDim.y)
            commit_copies()
            # The stage after the one that was filled is the one that was filled AHEAD slabs ago.
            stage = int32(stage + 1 if stage < AHEAD else 0)
            if slab >= 0:
                from_w = int32((slab if keeps else stage) * words + w_at)
                multiply(ring, int32(stage * stage_words + x_at), from_w, total)
            slab = int32(slab + 1)
            if slab == slabs:
                store_tile(
                    total,
                    rows,
                    int32(cuda.blockIdx.x * tile + warp_row + 2 * q),
                    bias,
                    result,
                    int32(span * columns + warp_column + 4 * r),
                    r & 1 == 1,
                    M,
                    has_bias,
                    relu,
                    aligned,
                )
                slab = int32(0)
                span = int32(span + cuda.gridDim.y)

    contract.__name__ = contract.__qualname__ = f"contract_{name}"
    return many_rows(numba_cuda.jit(contract, **shape.limits))


CONTRACT = {name: contraction(name, shape) for name, shape in SHAPES.items()}


def forward(x, weight, bias, y, windows, relu, variant):
    """y (O, M) from x (C, M), weight (O, K) and bias (O,) or None; relu: whether negative sums become 0."""
    _contract(x, weight, bias, y, windows, relu, variant, transposed=False)


def backward_input(dy, weight, dx, windows, variant):
    """dx (C, M) from dy (O, M) and weight (O, K)."""
    _contract(dy, weight, None, dx, windows, False, variant, transposed=True)


class _Cut(NamedTuple):
    """How a problem is shared out."""

    panels: Panels
    longest: int  # slabs of a tile
    spans: int
    sharers: int  # blocks that share the spans of a tile
    turns: int  # spans that are made one after another


@lru_cache(maxsize=4096)
def _cut(windows, transposed, shape, columns):
    panels = panels_of(windows, transposed, shape.tile, shape.depth)
    tiles, spans = len(panels.rows), launch.divide_up(columns, shape.columns)

    def turns(sharers):
        return launch.divide_up(tiles * sharers, shape.blocks) * launch.divide_up(spans, sharers)

    # As many as there is room for, or two or three times as many where that would leave too much of it empty.
    sharers = min((max(1, min(spans, waves * shape.blocks // tiles)) for waves in (1, 2, 3)), key=turns)
    return _Cut(panels, int(np.diff(panels.begin).max()), spans, sharers, turns(sharers))


def work(windows, transposed, variant, columns):
    """Cycles of the multiprocessors of an H200 for packing the weights and for all slabs."""
    shape = SHAPES[variant]
    cut = _cut(windows, transposed, shape, columns)
    slabs = len(cut.panels.sources)
    full = slabs * cut.spans / MULTIPROCESSORS * FULL[variant]
    return slabs * shape.words / PACKED + max(full, cut.turns * cut.longest * ALONE[variant])


def _contract(source, weight, bias, result, windows, relu, variant, transposed):
    shape = SHAPES[variant]
    columns = result.shape[1]
    cut = _cut(windows, transposed, shape, columns)
    panels = cut.panels
    keeps = shape.keeps(cut.longest, launch.shared_memory(source))
    slabs = cut.longest if keeps else STAGES
    launch.blocks(
        CONTRACT[variant],
        (len(panels.rows), cut.sharers),
        shape.threads,
        source,
        pack(weight, windows, transposed, shape.tile, shape.depth, shape.operands),
        bias,
        *[launch.table(each, source) for each in (panels.rows, panels.begin, panels.sources)],
        result,
        bias is not None,
        relu,
        rows_aligned(source, result),
        keeps,
        slabs * shape.words,
        cut.spans,
        columns,
        shared=shape.shared(slabs),
    )


COMPILE = [
    launch.Build(
        kernel,
        "FFFIIIFiiiiiii",
        dtypes=("float32",),
        since=SINCE,
        instructions=("HMMA", "LDGSTS.E.BYPASS.128", "LDS.128", "STG.E.128"),
        registers=128,
    )
    for kernel in CONTRACT.values()
]
