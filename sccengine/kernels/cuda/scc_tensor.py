"""The contraction and its transpose on tensor cores: TF32 or bf16 operands, or pairs of TF32 that make up a float32.

    y[f,m] = bias[f] + sum over the rows d of a tile's panel of W(f,d) * x[panel[d],m]          (then ReLU, if asked)

as in scc_tiles.py: filters sorted by start in tiles whose windows overlap, dx being the same kernel over tiles of
channels. W comes packed (scc_pack.py). x (C, M), weight (O, K), y (O, M), float32 in memory; sums in float32.

A block makes a tile of rows in one span of `columns` columns after another, its warps warp_rows x 32 columns each, in
accumulators of 16 x 8. Slabs of x pass through a ring of STAGES in shared memory, filled by asynchronous copies two
slabs ahead, one barrier a slab; the first slabs of a block's next span are on their way while it multiplies and stores
the last, so that reading, multiplying and storing overlap. W stays in shared memory from the first span on where a
multiprocessor has room for all of the tile's panel without holding fewer blocks (of 16 warps together, at most), else
its slabs pass through the ring with those of x. Rows of x are read 16 bytes at a time where M is a multiple of 4, else
4 bytes at a time into the same ring, so nothing after the loader knows the difference; past the ends of the panel and
of M copies fill with zeros.

x is the first operand of an mma, 16 columns m x 8 (TF32) or 16 (bf16) rows d, and W the second, d x 8 filters: so both
come into registers in the order in which they lie, without a move. Which column of x a row of the mma is may be chosen:
rows r and r + 8 of a warp's two mma are the neighbouring columns 4 r to 4 r + 3, so a lane loads its x and stores its y
16 bytes at a time. In the ring, bits 3 and 4 of a column are turned over by the row's number modulo 4, and so a load
meets no bank conflict.

bf16 is rounded on the way from shared memory to the tensor cores, and x stays float32 in memory. Converted copies would
move more through DRAM: 10 bytes an element of x and of dy in a training step (4 read, 2 written, 2 read by each of two
passes) against 8 (4 read by each of two). TF32x3 (scc_tensor_split.py) takes three products for one.

Floor: the larger of 4 (C + O) M bytes at 4.8 TB/s and 2 O K M operations at the unit's rate: on an H200 495 (TF32) and
990 TFLOP/s (bf16), of which mma.sync, used here, is good for some 60 %. Measured there, in us, W packed before, beside
a copy of x to y and the register tiles, which pack W for themselves (some 3 us), cg 2, co 0.5, when W still came anew
with each span and lanes loaded 8 bytes of x at a time:

    C     M       copy   TF32   TF32x3   register tiles
    64    262144  34.2   43.7    50.0    65.1
    128    65536  18.7   27.7    32.9    44.6
    256    32768  18.7   31.7    48.8    65.1
    512     8192   6.6   22.6    43.9    58.9
    512     2048   3.0   12.2    16.9    27.3

Tensor cores were busy for 16 to 28 % (TF32) and 34 to 45 % (TF32x3) of the time. A slab of TF32 took 390 cycles with 64
columns and 590 with 128, which is 21 bytes a cycle of W and x both times, about all that L2 hands a multiprocessor:
hence W stays. For TF32 at C = 64 it was 45.4 when every tile had a block of its own; five blocks a multiprocessor, a
fourth stage and slabs of 32 rows were all slower. Hopper's wgmma, for which Numba can compile (capability (9, 0, "a")),
is not used: for TF32 only W could come from shared memory, and x would pass through registers as here.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import cuda as numba_cuda
from numba import types

from sccengine.kernels.cuda import launch
from sccengine.kernels.cuda.indexing import quotient
from sccengine.kernels.cuda.intrinsics import (
    ALIGNMENT,
    bits,
    commit_copies,
    copy_async4,
    copy_async16,
    load,
    load4,
    mma_bf16,
    mma_tf32,
    pack_bf16,
    store,
    store4,
    thread_again,
    to_tf32,
    wait_copies_1,
)
from sccengine.kernels.cuda.launch import device_cuda as cuda
from sccengine.kernels.cuda.scc_pack import BF16, PIECE, TF32, TF32X3, Panels, pack, panels_of, slab_words
from sccengine.kernels.cuda.scc_register_shape import MULTIPROCESSORS
from sccengine.kernels.cuda.scc_tensor_split import add_product_tf32x3, split_tf32
from sccengine.kernels.cuda.unroll import static, unrolled
from sccengine.kernels.cuda.vectors import rows_aligned

int32 = types.int32
int64 = types.int64
float32 = types.float32

STAGES = 3
AHEAD = STAGES - 1
WARP = 32
# Columns that a warp makes, in strips of 16.
WARP_COLUMNS = 32
STRIPS = WARP_COLUMNS // 16
# Warps that a multiprocessor holds, and the bytes of shared memory that it keeps of each block for itself.
WARPS = 16
KEPT_BACK = 1024


class Shape(NamedTuple):
    """What a block makes, in rows x columns of the result, and a warp, from slabs of `depth` panel rows."""

    tile: int
    columns: int
    warp_rows: int
    depth: int
    operands: str  # TF32, BF16 or TF32X3 (scc_pack.py)

    @property
    def warps(self):
        return self.tile // self.warp_rows * (self.columns // WARP_COLUMNS)

    @property
    def threads(self):
        return WARP * self.warps

    @property
    def limits(self):
        """Options of @cuda.jit."""
        return launch.bounds(self.threads, WARPS // self.warps) if self.operands == TF32X3 else {}

    @property
    def blocks(self):
        """How many blocks all multiprocessors hold; more only wait for each other."""
        return 3 if launch.SIMULATED else MULTIPROCESSORS * WARPS // self.warps

    @property
    def words(self):
        """float32 words of a slab of W."""
        return slab_words(self.tile, self.depth, self.operands)

    def shared(self, slabs):
        """Bytes of shared memory for so many slabs of W and the ring of x."""
        return 4 * (slabs * self.words + STAGES * self.depth * self.columns)

    def keeps(self, slabs, room):
        """Whether in a multiprocessor's `room` as many blocks fit with so many slabs of W as with the ring's."""
        blocks = min(WARPS // self.warps, room // (self.shared(STAGES) + KEPT_BACK))
        return self.shared(slabs) + KEPT_BACK <= room // max(blocks, 1)


# By the name of the variant. The fewer rows, the fewer of the panel's weights are zeros, the smaller both sides, the
# more blocks a small problem has; the larger, the less is read again.
GPU_SHAPES = {
    "tf32_64x64": Shape(64, 64, 32, 16, TF32),
    "tf32_64x128": Shape(64, 128, 64, 16, TF32),
    "bf16_64x64": Shape(64, 64, 32, 16, BF16),
    "bf16_64x128": Shape(64, 128, 64, 16, BF16),
    "tf32x3_32x128": Shape(32, 128, 32, 16, TF32X3),
    "tf32x3_64x64": Shape(64, 64, 32, 16, TF32X3),
    "tf32x3_64x128": Shape(64, 128, 64, 16, TF32X3),
}
# The simulator's threads are Python threads: one or two warps there.
SIMULATOR_SHAPES = {
    "tf32_64x64": Shape(16, 32, 16, 32, TF32),
    "tf32_64x128": Shape(32, 32, 16, 16, TF32),
    "bf16_64x64": Shape(16, 32, 16, 16, BF16),
    "bf16_64x128": Shape(16, 64, 16, 32, BF16),
    "tf32x3_32x128": Shape(16, 32, 16, 16, TF32X3),
    "tf32x3_64x64": Shape(32, 32, 32, 16, TF32X3),
    "tf32x3_64x128": Shape(16, 32, 16, 32, TF32X3),
}
SHAPES = SIMULATOR_SHAPES if launch.SIMULATED else GPU_SHAPES
# Cycles of a multiprocessor for a block's slab on an H200, as measured (see above): where it holds as many blocks as it
# can, and where it has one, which waits for its copies. (bf16: assumed, from the ratio to TF32 over whole problems.)
FULL = {
    "tf32_64x64": 390,
    "tf32_64x128": 590,
    "bf16_64x64": 330,
    "bf16_64x128": 500,
    "tf32x3_32x128": 700,
    "tf32x3_64x64": 680,
    "tf32x3_64x128": 1230,
}
ALONE = {
    "tf32_64x64": 880,
    "tf32_64x128": 1250,
    "bf16_64x64": 800,
    "bf16_64x128": 1150,
    "tf32x3_32x128": 1250,
    "tf32x3_64x64": 1230,
    "tf32x3_64x128": 2050,
}
# Words of weights that all of it packs in a cycle, beyond what a launch takes.
PACKED = 95


def since(name):
    """The least compute capability for a variant."""
    # Machine code for 8.0 has one register too few for it.
    return (9, 0) if name == "tf32x3_64x128" else (8, 0)


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
                v = load4(ring, x_at + (8 * step + 4 * half) * columns)
                for s in static(STRIPS):
                    x[s, 2 * half] = to_tf32(v[2 * s])
                    x[s, 2 * half + 1] = to_tf32(v[2 * s + 1])
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
                low = load4(ring, x_at + (16 * step + 8 * half) * columns)
                high = load4(ring, x_at + (16 * step + 8 * half + 4) * columns)
                for s in static(STRIPS):
                    x[s, 2 * half] = pack_bf16(low[2 * s], high[2 * s])
                    x[s, 2 * half + 1] = pack_bf16(low[2 * s + 1], high[2 * s + 1])
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
        x = cuda.local.array((STRIPS, 4), np.uint32)
        rest = cuda.local.array((STRIPS, 4), np.uint32)
        for step in static(steps):
            for half in static(2):
                v = load4(ring, x_at + (8 * step + 4 * half) * columns)
                for s in static(STRIPS):
                    x[s, 2 * half], rest[s, 2 * half] = split_tf32(v[2 * s])
                    x[s, 2 * half + 1], rest[s, 2 * half + 1] = split_tf32(v[2 * s + 1])
            for i in range(blocks):
                w = load4(ring, w_at + (i * steps + step) * 2 * PIECE)
                v = load4(ring, w_at + ((i * steps + step) * 2 + 1) * PIECE)
                for s in range(STRIPS):
                    add_product_tf32x3(x[s], rest[s], bits(w[0]), bits(w[1]), bits(v[0]), bits(v[1]), total[i, 0, s])
                    add_product_tf32x3(x[s], rest[s], bits(w[2]), bits(w[3]), bits(v[2]), bits(v[3]), total[i, 1, s])

    return {TF32: multiply_tf32, BF16: multiply_bf16, TF32X3: multiply_tf32x3}[shape.operands]


@numba_cuda.jit(device=True)
def finish(value, offset, relu):
    """The value with its bias, and after a ReLU that keeps NaN."""
    value += offset
    # A comparison, because max(NaN, 0) is 0 on a GPU.
    return float32(0) if relu and value <= 0 else value


def contraction(name, shape):
    """The kernel of one Shape."""
    tile, columns, warp_rows, depth, operands = shape
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
                at = int64(max(read[v], int32(0))) * M + (m if is_inside else int32(0))
                count = int32(16 if read[v] >= 0 and is_inside else 0)
                copy_async16(ring, to + v * row_step * columns, source, at, count)
        else:
            for v in range(value_copies):
                for u in range(4):
                    column = int32(copy_column + u * row_copies)
                    is_read = read[v] >= 0 and m0 + column < M
                    at = int64(read[v] if is_read else int32(0)) * M + (m0 + column if is_read else 0)
                    place = int32(to + (column ^ turn)) + v * row_step * columns
                    copy_async4(ring, place, source, at, int32(4 if is_read else 0))

    @numba_cuda.jit(device=True)
    @unrolled
    def store_tile(total, rows, row_at, bias, result, m, M, has_bias, relu, aligned):
        """Stores this lane's sums, of rows[row_at], ... and the four columns from m on, and sets them to zero."""
        for i in static(blocks):
            for pair in range(2):
                for side in range(2):
                    row = load(rows, row_at + (16 * i + 8 * pair + side))
                    if row >= 0 and m < M:
                        offset = load(bias, row) if has_bias else float32(0)
                        at = int64(row) * M + m
                        y0 = finish(total[i, pair, 0, side], offset, relu)
                        y1 = finish(total[i, pair, 0, 2 + side], offset, relu)
                        y2 = finish(total[i, pair, 1, side], offset, relu)
                        y3 = finish(total[i, pair, 1, 2 + side], offset, relu)
                        if aligned:
                            store4(result, at, y0, y1, y2, y3)
                        else:
                            store(result, at, y0)
                            if m < M - 1:
                                store(result, at + 1, y1)
                            if m < M - 2:
                                store(result, at + 2, y2)
                            if m < M - 3:
                                store(result, at + 3, y3)
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
        x_at = int32(ring_at + q * columns + warp_column + (4 * r ^ 8 * q))
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
                wait_copies_1()
                cuda.syncthreads()
            if fetch:
                if not keeps or coming == int32(cuda.blockIdx.y):
                    to = int32((ahead if keeps else stage) * words + 4 * thread)
                    at = int32((tile_begin + ahead) * words + 4 * thread)
                    for v in range(weight_copies):
                        copy_async16(ring, to + v * 4 * threads, packed, at + v * 4 * threads, 16)
                to = int32(ring_at + stage * stage_words + copy_row * columns)
                turn = int32(8 * (copy_row & 3))
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
                    M,
                    has_bias,
                    relu,
                    aligned,
                )
                slab = int32(0)
                span = int32(span + cuda.gridDim.y)

    contract.__name__ = contract.__qualname__ = f"contract_{name}"
    return launch.many_rows(numba_cuda.jit(contract, **shape.limits))


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
        since=since(name),
        instructions=("HMMA", "LDGSTS.E.BYPASS.128", "LDS.128", "STG.E.128"),
        registers=128,
    )
    for name, kernel in CONTRACT.items()
]
