"""The contraction and its transpose on tensor cores: TF32 or bf16 operands, sums in float32.

    y[f,m] = bias[f] + sum over the rows d of a tile's panel of W(f,d) * x[panel[d],m]          (then ReLU, if asked)

as in scc_tiles.py: filters sorted by start in tiles whose windows overlap, dx being the same kernel over tiles of
channels. W comes packed (scc_pack.py). x (C, M), weight (O, K), y (O, M), float32 in memory.

A block makes a tile of rows x `columns` columns, its warps warp_rows x warp_columns each, in accumulators of 16 x 8.
Slabs of W and of x pass through a ring of STAGES in shared memory, filled by asynchronous copies two slabs ahead, one
barrier a slab. Rows of x are read 16 bytes at a time where M is a multiple of 4, else 4 bytes at a time into the same
ring, so nothing after the loader knows the difference; past the ends of the panel and of M copies fill with zeros.

x is the first operand of an mma, 16 columns m x 8 (TF32) or 16 (bf16) rows d, and W the second, d x 8 filters: so both
come into registers in the order in which they lie, without a move. The mma's rows r and r + 8 are the neighbouring
columns 2 r and 2 r + 1 of x, so a lane loads its x and stores its y 8 bytes at a time; with a pitch of 8 more than a
multiple of 32 there are no bank conflicts.

bf16 is rounded on the way from shared memory to the tensor cores, and x stays float32 in memory. Converted copies would
move more through DRAM: 10 bytes an element of x and of dy in a training step (4 read, 2 written, 2 read by each of two
passes) against 8 (4 read by each of two).

Floor: the larger of 4 (C + O) M bytes at 4.8 TB/s and 2 O K M operations at the unit's rate: on an H200 495 (TF32) and
990 TFLOP/s (bf16), of which mma.sync, used here, is good for some 60 %. SCC layers with K = C / 2 meet the bytes first
up to C = 512. Issued for each mma in the loop, itself included, counted in the machine code for 9.0 with M a multiple
of 4: TF32 4.8 (64 x 128) and 4.0 (128 x 128), bf16 6.6 and 4.1, where an mma takes 6.5 cycles or more. Rounding to TF32
is two of them for each number of x: its one instruction of PTX is two on 8.0 and 9.0.

Hopper's wgmma is not used, though Numba can compile for it (capability (9, 0, "a")): for TF32 only W could come from
shared memory, x would pass through registers as here, and whether the compiler keeps 64 accumulators in place across
inline assembly that works asynchronously is not to be decided without a GPU.
"""

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
    load2,
    load4,
    mma_bf16,
    mma_tf32,
    pack_bf16,
    store,
    store2,
    to_tf32,
    wait_copies_1,
)
from sccengine.kernels.cuda.launch import device_cuda as cuda
from sccengine.kernels.cuda.scc_pack import PIECE, pack, panels_of, slab_words
from sccengine.kernels.cuda.scc_register_shape import WANTED_THREADS, rows_aligned
from sccengine.kernels.cuda.unroll import static, unrolled

int32 = types.int32
float32 = types.float32

STAGES = 3
AHEAD = STAGES - 1
WARP = 32
# More than a multiple of 32 words, the banks of shared memory, in a row of x.
PITCH = 8


class Shape(NamedTuple):
    """What a block and a warp make, in rows x columns of the result, from slabs of `depth` panel rows."""

    tile: int
    columns: int
    warp_rows: int
    warp_columns: int
    depth: int
    bf16: bool

    @property
    def threads(self):
        return WARP * (self.tile // self.warp_rows) * (self.columns // self.warp_columns)

    @property
    def shared(self):
        """Bytes of the ring."""
        return 4 * STAGES * (slab_words(self.tile, self.depth, self.bf16) + self.depth * (self.columns + PITCH))

    @property
    def cycles(self):
        """Cycles of a multiprocessor for a slab: of its four tensor cores or of shared memory, 128 bytes each.

        An mma of 16 x 8 x 8 (bf16: x 16) takes a tensor core some 6.5 cycles, an assumption from published rates.
        """
        weight_bytes = 2 if self.bf16 else 4
        mma = self.tile * self.columns * self.depth / (2048 if self.bf16 else 1024)
        warps = self.threads // WARP
        read = warps * (self.warp_rows * weight_bytes + self.warp_columns * 4)
        written = self.tile * weight_bytes + self.columns * 4
        return max(mma * 6.5 / 4, (read + written) * self.depth / 128)


# By the name of the variant. 64 rows: as many filters share a window in small layers, and four blocks fit into a
# multiprocessor. 128 rows: x and W are read half as often, and each mma needs a quarter less of shared memory.
GPU_SHAPES = {
    "tf32_64x128": Shape(64, 128, 64, 32, 16, False),
    "tf32_128x128": Shape(128, 128, 64, 64, 16, False),
    "bf16_64x128": Shape(64, 128, 64, 32, 16, True),
    "bf16_128x128": Shape(128, 128, 64, 64, 32, True),
}
# The simulator's threads are Python threads: one or two warps there.
SIMULATOR_SHAPES = {
    "tf32_64x128": Shape(32, 16, 32, 16, 16, False),
    "tf32_128x128": Shape(32, 32, 16, 32, 16, False),
    "bf16_64x128": Shape(16, 32, 16, 32, 16, True),
    "bf16_128x128": Shape(16, 32, 16, 16, 32, True),
}
SHAPES = SIMULATOR_SHAPES if launch.SIMULATED else GPU_SHAPES


def _multiplication(shape):
    """The device function multiply(ring, x_at, w_at, total): a warp's share of one slab."""
    blocks = shape.warp_rows // 16
    strips = shape.warp_columns // 16
    pitch = shape.columns + PITCH
    steps = shape.depth // (16 if shape.bf16 else 8)

    @numba_cuda.jit(device=True)
    @unrolled
    def multiply_tf32(ring, x_at, w_at, total):
        x = cuda.local.array((strips, 4), np.uint32)
        for step in static(steps):
            for s in range(strips):
                low = load2(ring, x_at + 8 * step * pitch + 16 * s)
                high = load2(ring, x_at + (8 * step + 4) * pitch + 16 * s)
                x[s, 0] = to_tf32(low[0])
                x[s, 1] = to_tf32(low[1])
                x[s, 2] = to_tf32(high[0])
                x[s, 3] = to_tf32(high[1])
            for i in range(blocks):
                w = load4(ring, w_at + (i * steps + step) * PIECE)
                for s in range(strips):
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
        x = cuda.local.array((strips, 4), np.uint32)
        for step in static(steps):
            for s in range(strips):
                for half in static(2):
                    low = load2(ring, x_at + (16 * step + 8 * half) * pitch + 16 * s)
                    high = load2(ring, x_at + (16 * step + 8 * half + 4) * pitch + 16 * s)
                    x[s, 2 * half] = pack_bf16(low[0], high[0])
                    x[s, 2 * half + 1] = pack_bf16(low[1], high[1])
            for i in range(blocks):
                w = load4(ring, w_at + (i * steps + step) * PIECE)
                for s in range(strips):
                    a = x[s]
                    c = total[i, 0, s]
                    c[0], c[1], c[2], c[3] = mma_bf16(
                        a[0], a[1], a[2], a[3], bits(w[0]), bits(w[1]), c[0], c[1], c[2], c[3]
                    )
                    c = total[i, 1, s]
                    c[0], c[1], c[2], c[3] = mma_bf16(
                        a[0], a[1], a[2], a[3], bits(w[2]), bits(w[3]), c[0], c[1], c[2], c[3]
                    )

    return multiply_bf16 if shape.bf16 else multiply_tf32


@numba_cuda.jit(device=True)
def finish(value, offset, relu):
    """The value with its bias, and after a ReLU that keeps NaN."""
    value += offset
    # A comparison, because max(NaN, 0) is 0 on a GPU.
    return float32(0) if relu and value <= 0 else value


def contraction(name, shape):
    """The kernel of one Shape."""
    tile, columns, warp_rows, warp_columns, depth, bf16 = shape
    threads = shape.threads
    row_warps = tile // warp_rows
    blocks = warp_rows // 16
    strips = warp_columns // 16
    pitch = columns + PITCH
    words = slab_words(tile, depth, bf16)
    stage_words = words + depth * pitch
    # A thread copies 16 bytes at a time: of W as they lie, of x in rows `row_step` apart.
    weight_copies = words // 4 // threads
    row_copies = columns // 4
    row_step = threads // row_copies
    value_copies = depth // row_step
    multiply = _multiplication(shape)

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
        tiles,
        M,
    ):
        ring = cuda.shared.array(0, float32, ALIGNMENT)
        total = cuda.local.array((blocks, 2, strips, 4), float32)
        for i in range(blocks):
            for pair in range(2):
                for s in range(strips):
                    for part in range(4):
                        total[i, pair, s, part] = 0

        # Blocks that read the same columns are neighbours, so that only the first of them asks DRAM for x.
        block_column = quotient(cuda.blockIdx.x, tiles)
        t = int32(cuda.blockIdx.x - block_column * tiles)
        m0 = int32(block_column * columns)
        thread = int32(cuda.threadIdx.x)
        lane = int32(thread & 31)
        r = int32(lane >> 2)
        q = int32(lane & 3)
        warp = quotient(thread, WARP)
        warp_column = quotient(warp, row_warps)
        warp_row = int32((warp - warp_column * row_warps) * warp_rows)
        warp_column = int32(warp_column * warp_columns)

        slab = load(begin, t)
        slabs = int32(load(begin, t + 1) - slab)
        copy_row = quotient(thread, row_copies)
        copy_column = int32(thread - copy_row * row_copies)
        is_inside = int32(m0 + 4 * copy_column) < M
        copy_from = int32(m0 + 4 * copy_column if is_inside else 0)
        x_to = int32(words + copy_row * pitch)
        w_at = int32(warp_row * (words // tile) + 4 * lane)
        x_at = int32(words + q * pitch + warp_column + 2 * r)
        read = cuda.local.array(value_copies, int32)

        filled = int32(0)
        used = int32(0)
        now = int32(-AHEAD)
        while now < slabs:
            ahead = int32(now + AHEAD)
            if ahead < slabs:
                # The rows to be copied are looked up before the wait, and have come after it.
                at = int32((slab + ahead) * depth + copy_row)
                for v in range(value_copies):
                    read[v] = load(sources, at + v * row_step)
            if now >= 0:
                wait_copies_1()
                cuda.syncthreads()
            if ahead < slabs:
                to = int32(filled + 4 * thread)
                at = int32((slab + ahead) * words + 4 * thread)
                for v in range(weight_copies):
                    copy_async16(ring, to + v * 4 * threads, packed, at + v * 4 * threads, 16)
                to = int32(filled + x_to)
                if aligned:
                    for v in range(value_copies):
                        at = int32(max(read[v], int32(0)) * M + copy_from)
                        count = int32(16 if read[v] >= 0 and is_inside else 0)
                        copy_async16(ring, int32(to + 4 * copy_column) + v * row_step * pitch, source, at, count)
                else:
                    for v in range(value_copies):
                        for u in range(4):
                            m = int32(m0 + copy_column + u * row_copies)
                            is_read = read[v] >= 0 and m < M
                            at = int32(read[v] * M + m if is_read else 0)
                            count = int32(4 if is_read else 0)
                            place = v * row_step * pitch + u * row_copies
                            copy_async4(ring, int32(to + copy_column) + place, source, at, count)
                filled = int32(filled + stage_words if filled < AHEAD * stage_words else 0)
            commit_copies()
            if now >= 0:
                multiply(ring, int32(used + x_at), int32(used + w_at), total)
                used = int32(used + stage_words if used < AHEAD * stage_words else 0)
            now = int32(now + 1)

        for i in static(blocks):
            for pair in range(2):
                for side in range(2):
                    row = load(rows, int32(t * tile + warp_row + 2 * q) + 16 * i + 8 * pair + side)
                    if row >= 0:
                        offset = load(bias, row) if has_bias else float32(0)
                        for s in range(strips):
                            m = int32(m0 + warp_column + 2 * r + 16 * s)
                            left = finish(total[i, pair, s, side], offset, relu)
                            right = finish(total[i, pair, s, 2 + side], offset, relu)
                            if aligned:
                                if m < M:
                                    store2(result, int32(row * M + m), left, right)
                            else:
                                if m < M:
                                    store(result, int32(row * M + m), left)
                                if m < M - 1:
                                    store(result, int32(row * M + m) + 1, right)

    contract.__name__ = contract.__qualname__ = f"contract_{name}"
    return numba_cuda.jit(contract)


CONTRACT = {name: contraction(name, shape) for name, shape in SHAPES.items()}


def forward(x, weight, bias, y, windows, relu, variant):
    """y (O, M) from x (C, M), weight (O, K) and bias (O,) or None; relu: whether negative sums become 0."""
    _contract(x, weight, bias, y, windows, relu, variant, transposed=False)


def backward_input(dy, weight, dx, windows, variant):
    """dx (C, M) from dy (O, M) and weight (O, K)."""
    _contract(dy, weight, None, dx, windows, False, variant, transposed=True)


def work(windows, transposed, variant, columns):
    """Cycles for all slabs, over the part of the machine that works on them."""
    shape = SHAPES[variant]
    panels = panels_of(windows, transposed, shape.tile, shape.depth)
    strips = launch.divide_up(columns, shape.columns)
    threads = len(panels.rows) * strips * shape.threads
    return len(panels.sources) * strips * shape.cycles / min(1, threads / WANTED_THREADS)


def _contract(source, weight, bias, result, windows, relu, variant, transposed):
    shape = SHAPES[variant]
    columns = result.shape[1]
    panels = panels_of(windows, transposed, shape.tile, shape.depth)
    tiles = len(panels.rows)
    launch.blocks(
        CONTRACT[variant],
        tiles * launch.divide_up(columns, shape.columns),
        shape.threads,
        source,
        pack(weight, windows, transposed, shape.tile, shape.depth, shape.bf16),
        bias,
        *[launch.table(each, source) for each in (panels.rows, panels.begin, panels.sources)],
        result,
        bias is not None,
        relu,
        rows_aligned(source, result),
        tiles,
        columns,
        shared=shape.shared,
    )


COMPILE = [
    launch.Build(
        CONTRACT[name],
        "FFFIIIFiiiii",
        dtypes=("float32",),
        since=(8, 0),
        instructions=("HMMA", "LDGSTS.E.BYPASS.128", "LDS.128", "LDS.64", "STG.E.64"),
        registers=128 if shape.tile == 64 else 200,
    )
    for name, shape in SHAPES.items()
]
