"""Depthwise convolution at the speed of memory: a thread makes a strip of ROWS rows, one column and LANES images.

The maths and the shapes are those of depthwise.py. What memory must carry at least, for float32 and 4.8 TB/s (H200):

    forward, dx   4 * (C*H*W*N + O*HO*WO*N) bytes      C = O = 64, 32 x 32, N = 128: 67 MB, 14 us
    dweight       the same bytes, only read            2 * KH*KW operations an output: 151 MFLOP, 2 us at 67 TFLOP/s

so memory is the limit as long as x comes from it once and few instructions go with a number. The bytes of a warp's
strip (LANES = 4, stride 1) give a multiprocessor's four schedulers time for about 1500 instructions; it has 850. With
LANES = 1 they are 380 and 600: such a batch may cost half as much again.

How:

* A strip walks down the image. Each row that it enters is read once, KW neighbouring columns of it, and added at once
  to the up to KH outputs of the strip that it reaches: KW loads for each row instead of KH*KW for each output. All
  loops over the strip are written out, so every tap is a constant place in a register, and the loads of the rows
  ahead are issued under the arithmetic.
* LANES = 4: one 128-bit load or store serves four images; needs N % 4 == 0. LANES = 1 is the same text for all other
  N. Neighbouring threads are neighbouring n and then neighbouring columns, which lie side by side in memory, so
  a warp's accesses are full lines at any N; with N = 1 it is the plain image and a warp reads along w.
* The KW columns of a row are read by KW threads: from the first-level cache, if the threads of a block are a patch of
  many columns and few images. `chunk` is how many lanes of one pixel follow each other before the next column: about
  128 bytes. Strips overlap by KH - SH rows, so the second-level cache delivers (ROWS*SH + KH - SH) / (ROWS*SH) of x.

The strips of dx start where the stride's phase is the same for all (a strip may begin outside the image), and a
thread makes SW neighbouring columns: so which tap reaches which pixel is again known at compile time, nothing is
divided and no product is wasted at stride 2. It loops over the filters of its channel.

dweight: a block adds up all taps of one filter over its share of the strips, and reads both images once; the sum of
dy, which is dbias, is one tap more. Warps add by shuffles, the block over its warps, and a second kernel over the
blocks: always in the same order.

Kernels are made by a factory for each (KH, KW), (SH, SW) and LANES of COMPILED; other settings take version 1.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import numpy as np
from numba import cuda

from sccengine.kernels.cuda import launch
from sccengine.kernels.cuda.indexing import quotient, thread_index
from sccengine.kernels.cuda.intrinsics import load, load4, store, store4, warp_sum
from sccengine.kernels.cuda.scc_register_sums import add_spans, sums_of
from sccengine.kernels.cuda.unroll import static, unrolled
from sccengine.kernels.cuda.vectors import LINE, rows_aligned

ROWS = 8
# A strip of dx is SW columns wide, and so shorter. A multiple of every SH.
DX_ROWS = 4
WARP = 32
# Blocks of dweight that keep a GPU busy: 132 multiprocessors with 8 each.
WANTED_BLOCKS = 4 if launch.SIMULATED else 1056
# Threads of a block of dweight: whole warps, because they add by shuffles.
THREADS = WARP if launch.SIMULATED else 256
WARPS = THREADS // WARP


@cuda.jit(device=True)
def strip_place(i, chunk, parts, columns, strips):
    """(row of the result, strip, column, lane group) of a thread: lanes of a chunk first, then columns, then chunks."""
    q = quotient(i, chunk)
    lane = np.int32(i - q * chunk)
    r = quotient(q, columns)
    column = np.int32(q - r * columns)
    q = quotient(r, parts)
    lane = np.int32(lane + (r - q * parts) * chunk)
    r = quotient(q, strips)
    return r, np.int32(q - r * strips), column, lane


@cache
def kernels(kernel, stride, lanes):
    """forward, backward_input and backward_weight for one kernel size, one stride, and 4 images a thread or 1."""
    KH, KW = kernel
    SH, SW = stride
    LANES = lanes
    TAPS = KH * KW
    SUMS = TAPS + 1
    # Rows of x under a strip of y.
    UNDER = (ROWS - 1) * SH + KH
    # Rows and columns of y that reach a strip of dx, counted from the one at the strip's own place.
    FIRST_ROW, LAST_ROW = -((KH - 1) // SH), (DX_ROWS - 1) // SH
    REACH = (KW - 1) // SW + 1

    @unrolled
    def forward(
        x,  # (C, H, W, N)
        weight,  # (O, KH, KW)
        bias,  # (O,), read only if has_bias
        y,  # (O, HO, WO, N)
        has_bias,
        relu,
        flipped,  # whether the kernel is turned by 180 degrees: the forward then makes dx of a stride of 1
        count,  # threads: O * strips * parts * WO * chunk
        chunk,  # lane groups of a column that neighbouring threads take
        parts,  # chunks of a column: N / LANES / chunk
        strips,  # of ROWS rows in a column of y
        multiplier,  # O / C
        height,  # H
        width,  # W
        batch,  # N
        out_height,  # HO
        out_width,  # WO
        padding_height,
        padding_width,
    ):
        i = thread_index()
        if i >= count:
            return
        f, strip, wo, group = strip_place(i, chunk, parts, out_width, strips)
        zero = np.float32(0)
        total = cuda.local.array((ROWS, LANES), np.float32)
        value = cuda.local.array((KW, LANES), np.float32)
        taps = cuda.local.array(TAPS, np.float32)
        start = load(bias, f) if has_bias else zero
        for r in range(ROWS):
            for lane in range(LANES):
                total[r, lane] = start
        for t in range(TAPS):
            taps[t] = load(weight, np.int32(f * TAPS + (TAPS - 1 - t if flipped else t)))

        first_row = np.int32(strip * ROWS)
        top = np.int32(first_row * SH - padding_height)
        left = np.int32(wo * SW - padding_width)
        pitch = np.int32(width * batch)
        channel = quotient(f, multiplier)
        corner = np.int32(((channel * height + top) * width + left) * batch + group * LANES)
        for step in static(UNDER):
            row_inside = np.uint32(top + step) < np.uint32(height)
            for kw in range(KW):
                at = np.int32(corner + step * pitch + kw * batch)
                if row_inside and np.uint32(left + kw) < np.uint32(width):
                    if LANES == 4:
                        value[kw, 0], value[kw, 1], value[kw, 2], value[kw, 3] = load4(x, at)
                    else:
                        value[kw, 0] = load(x, at)
                else:
                    for lane in range(LANES):
                        value[kw, lane] = zero
            for r in static(ROWS):
                if r * SH <= step < r * SH + KH:
                    for kw in range(KW):
                        for lane in range(LANES):
                            total[r, lane] += taps[(step - r * SH) * KW + kw] * value[kw, lane]

        at = np.int32(((f * out_height + first_row) * out_width + wo) * batch + group * LANES)
        for r in static(ROWS):
            for lane in range(LANES):
                # A comparison, because max(NaN, 0) is 0 on a GPU.
                total[r, lane] = zero if relu and total[r, lane] <= 0 else total[r, lane]
            if first_row + r < out_height:
                if LANES == 4:
                    store4(y, at, total[r, 0], total[r, 1], total[r, 2], total[r, 3])
                else:
                    store(y, at, total[r, 0])
            at = np.int32(at + out_width * batch)

    @unrolled
    def backward_input(
        dy,  # (O, HO, WO, N)
        weight,  # (O, KH, KW)
        dx,  # (C, H, W, N)
        count,  # threads: C * strips * parts * pairs * chunk
        chunk,  # lane groups of a column that neighbouring threads take
        parts,  # chunks of a column: N / LANES / chunk
        strips,  # of DX_ROWS rows in a column of dx
        pairs,  # of SW neighbouring columns in a row of dx
        multiplier,  # O / C
        height,  # H
        width,  # W
        batch,  # N
        out_height,  # HO
        out_width,  # WO
        padding_height,
        padding_width,
    ):
        i = thread_index()
        if i >= count:
            return
        channel, strip, pair, group = strip_place(i, chunk, parts, pairs, strips)
        zero = np.float32(0)
        total = cuda.local.array((DX_ROWS, SW, LANES), np.float32)
        value = cuda.local.array((REACH, LANES), np.float32)
        taps = cuda.local.array(TAPS, np.float32)
        for r in range(DX_ROWS):
            for c in range(SW):
                for lane in range(LANES):
                    total[r, c, lane] = zero

        # The strip's first row and column in dx, of phase 0 in the padded image, and the row and column of y there.
        first_row = np.int32(strip * DX_ROWS - padding_height % SH)
        first_column = np.int32(pair * SW - padding_width % SW)
        top = np.int32(strip * (DX_ROWS // SH) + padding_height // SH)
        left = np.int32(pair + padding_width // SW)
        pitch = np.int32(out_width * batch)
        for m in range(multiplier):
            f = np.int32(channel * multiplier + m)
            for t in range(TAPS):
                taps[t] = load(weight, np.int32(f * TAPS + t))
            corner = np.int32(((f * out_height + top) * out_width + left) * batch + group * LANES)
            for step in static(FIRST_ROW, LAST_ROW + 1):
                row_inside = np.uint32(top + step) < np.uint32(out_height)
                for back in range(REACH):
                    at = np.int32(corner + step * pitch - back * batch)
                    if row_inside and np.uint32(left - back) < np.uint32(out_width):
                        if LANES == 4:
                            value[back, 0], value[back, 1], value[back, 2], value[back, 3] = load4(dy, at)
                        else:
                            value[back, 0] = load(dy, at)
                    else:
                        for lane in range(LANES):
                            value[back, lane] = zero
                for r in static(DX_ROWS):
                    if 0 <= r - step * SH < KH:
                        for back in range(REACH):
                            for c in range(SW):
                                if c + back * SW < KW:
                                    for lane in range(LANES):
                                        total[r, c, lane] += (
                                            taps[(r - step * SH) * KW + c + back * SW] * value[back, lane]
                                        )

        for r in static(DX_ROWS):
            for c in range(SW):
                row_inside = np.uint32(first_row + r) < np.uint32(height)
                if row_inside and np.uint32(first_column + c) < np.uint32(width):
                    pixel = np.int32((channel * height + first_row + r) * width + first_column + c)
                    at = np.int32(pixel * batch + group * LANES)
                    if LANES == 4:
                        store4(dx, at, total[r, c, 0], total[r, c, 1], total[r, c, 2], total[r, c, 3])
                    else:
                        store(dx, at, total[r, c, 0])

    @unrolled
    def backward_weight(
        dy,  # (O, HO, WO, N)
        x,  # (C, H, W, N)
        sums,  # (splits, size): dweight (O, KH, KW), and after it dbias (O,) if adds_dbias
        adds_dbias,
        size,
        count,  # strips of a filter: strips * parts * WO * chunk
        chunk,  # lane groups of a column that neighbouring threads take
        parts,  # chunks of a column: N / LANES / chunk
        strips,  # of ROWS rows in a column of dy
        filters,  # O
        splits,  # blocks of a filter, which share its strips
        multiplier,  # O / C
        height,  # H
        width,  # W
        batch,  # N
        out_height,  # HO
        out_width,  # WO
        padding_height,
        padding_width,
    ):
        partial = cuda.shared.array((WARPS, SUMS), np.float32)
        split = quotient(cuda.blockIdx.x, filters)
        f = np.int32(cuda.blockIdx.x - split * filters)
        channel = quotient(f, multiplier)
        pitch = np.int32(width * batch)
        zero = np.float32(0)
        total = cuda.local.array(SUMS, np.float32)
        slope = cuda.local.array((ROWS, LANES), np.float32)
        value = cuda.local.array((KW, LANES), np.float32)
        for t in range(SUMS):
            total[t] = zero
        for i in range(split * THREADS + cuda.threadIdx.x, count, splits * THREADS):
            _, strip, wo, group = strip_place(i, chunk, parts, out_width, strips)
            first_row = np.int32(strip * ROWS)
            top = np.int32(first_row * SH - padding_height)
            left = np.int32(wo * SW - padding_width)
            corner = np.int32(((channel * height + top) * width + left) * batch + group * LANES)
            out_corner = np.int32(((f * out_height + first_row) * out_width + wo) * batch + group * LANES)
            for step in static(UNDER):
                # The row of dy whose window begins here; KH of them are in use at a time.
                if step % SH == 0 and step // SH < ROWS:
                    at = np.int32(out_corner + (step // SH) * out_width * batch)
                    if first_row + step // SH < out_height:
                        if LANES == 4:
                            (
                                slope[step // SH, 0],
                                slope[step // SH, 1],
                                slope[step // SH, 2],
                                slope[step // SH, 3],
                            ) = load4(dy, at)
                        else:
                            slope[step // SH, 0] = load(dy, at)
                    else:
                        for lane in range(LANES):
                            slope[step // SH, lane] = zero
                    for lane in range(LANES):
                        total[TAPS] += slope[step // SH, lane]
                row_inside = np.uint32(top + step) < np.uint32(height)
                for kw in range(KW):
                    at = np.int32(corner + step * pitch + kw * batch)
                    if row_inside and np.uint32(left + kw) < np.uint32(width):
                        if LANES == 4:
                            value[kw, 0], value[kw, 1], value[kw, 2], value[kw, 3] = load4(x, at)
                        else:
                            value[kw, 0] = load(x, at)
                    else:
                        for lane in range(LANES):
                            value[kw, lane] = zero
                for r in static(ROWS):
                    if r * SH <= step < r * SH + KH:
                        for kw in range(KW):
                            for lane in range(LANES):
                                total[(step - r * SH) * KW + kw] += slope[r, lane] * value[kw, lane]

        thread = cuda.threadIdx.x
        for t in range(SUMS):
            of_warp = warp_sum(total[t])
            if thread % WARP == 0:
                partial[thread // WARP, t] = of_warp
        cuda.syncthreads()
        if thread < (SUMS if adds_dbias else TAPS):
            of_block = zero
            for w in range(WARPS):
                of_block += partial[w, thread]
            place = f * TAPS + thread if thread < TAPS else filters * TAPS + f
            sums[split * size + place] = of_block

    kernels = {}
    for function in (forward, backward_input, backward_weight):
        name = function.__name__
        function.__name__ = function.__qualname__ = f"{name}_{KH}x{KW}_stride_{SH}x{SW}_lanes_{LANES}"
        kernels[name] = cuda.jit(function)
    return SimpleNamespace(**kernels)


def serves(x, weight, stride):
    """Whether kernels are compiled for the dtype of x (C, H, W, N), the size of weight (O, KH, KW) and the stride."""
    return x.dtype == np.float32 and (weight.shape[1:], stride) in COMPILED


def forward(x, weight, bias, y, stride, padding, relu):
    """y (O, HO, WO, N) from x (C, H, W, N), weight (O, KH, KW) and bias (O,) or None; relu: negative ones become 0."""
    _forward(x, weight, bias, y, stride, padding, relu, flipped=False)


def backward_input(dy, weight, dx, stride, padding):
    """dx (C, H, W, N) from dy (O, HO, WO, N) and weight (O, KH, KW)."""
    kernel = weight.shape[1:]
    if stride == (1, 1) and dx.shape[0] == dy.shape[0]:
        # A convolution again, with the kernel turned round.
        padding = tuple(size - 1 - margin for size, margin in zip(kernel, padding))
        return _forward(dy, weight, None, dx, stride, padding, relu=False, flipped=True)
    lanes = lanes_of(dy, dx)
    channels, height, width, batch = dx.shape
    strips = launch.divide_up(height + padding[0] % stride[0], DX_ROWS)
    pairs = launch.divide_up(width + padding[1] % stride[1], stride[1])
    chunk = chunk_of(batch // lanes, lanes)
    parts = batch // lanes // chunk
    count = channels * strips * parts * pairs * chunk
    sizes = weight.shape[0] // channels, height, width, batch, *dy.shape[1:3], *padding
    kernel = kernels(kernel, stride, lanes).backward_input
    launch.elements(kernel, count, dy, weight, dx, count, chunk, parts, strips, pairs, *sizes)


def backward_weight(dy, x, dweight, stride, padding, dbias=None):
    """dweight (O, KH, KW), and dbias (O,) unless it is None, from dy (O, HO, WO, N) and x (C, H, W, N)."""
    lanes = lanes_of(dy, x)
    filters, out_height, out_width, batch = dy.shape
    strips = launch.divide_up(out_height, ROWS)
    chunk = chunk_of(batch // lanes, lanes)
    parts = batch // lanes // chunk
    count = strips * parts * out_width * chunk
    splits = min(launch.divide_up(count, THREADS), launch.divide_up(WANTED_BLOCKS, filters))
    sums = sums_of(splits, dweight, dbias)
    sizes = filters, splits, filters // x.shape[0], *x.shape[1:], out_height, out_width, *padding
    kernel = kernels(dweight.shape[1:], stride, lanes).backward_weight
    cut = count, chunk, parts, strips
    launch.blocks(kernel, splits * filters, THREADS, dy, x, sums, dbias is not None, sums.size // splits, *cut, *sizes)
    add_spans(sums, dweight, dbias)


def _forward(x, weight, bias, y, stride, padding, relu, flipped):
    lanes = lanes_of(x, y)
    filters, out_height, out_width, batch = y.shape
    strips = launch.divide_up(out_height, ROWS)
    chunk = chunk_of(batch // lanes, lanes)
    parts = batch // lanes // chunk
    count = filters * strips * parts * out_width * chunk
    sizes = filters // x.shape[0], *x.shape[1:], out_height, out_width, *padding
    kernel = kernels(weight.shape[1:], stride, lanes).forward
    arrays = x, weight, bias, y
    launch.elements(kernel, count, *arrays, bias is not None, relu, flipped, count, chunk, parts, strips, *sizes)


def lanes_of(*images):
    """How many images a thread takes: 4 where vectors of 16 bytes can be accessed, else 1."""
    return 4 if rows_aligned(*images) else 1


@cache
def chunk_of(groups, lanes):
    """The least divisor of a pixel's lane groups that makes at least LINE bytes; all of them if none does."""
    least = LINE // (4 * lanes)
    return next((size for size in range(least, groups) if groups % size == 0), groups)


COMPILED = [((3, 3), (1, 1)), ((3, 3), (2, 2)), ((5, 5), (1, 1)), ((5, 5), (2, 2))]
COMPILE = [
    launch.Build(
        kernel,
        codes,
        dtypes=("float32",),
        instructions=instructions,
        registers=104 if sizes[0] == (3, 3) else 168,
    )
    for sizes in COMPILED
    for lanes, load_and_store in ((4, ("LDG.E.128", "STG.E.128")), (1, ()))
    for made in [kernels(*sizes, lanes)]
    for kernel, codes, instructions in (
        (made.forward, "FFFF" + "i" * 15, load_and_store),
        (made.backward_input, "FFF" + "i" * 13, load_and_store),
        (made.backward_weight, "FFF" + "i" * 16, load_and_store[:1]),
    )
]
