"""The part of a result that a block of the register-tiled kernels makes, and the product at their heart.

A thread holds thread_rows x thread_columns sums in registers, in groups of 4 x 4 elements: the groups of a warp's
threads lie side by side, so that what neighbouring threads load from shared memory, and store to the result, are
neighbouring vectors of 16 bytes.

    block    warps (rows, columns) of warps
    warp     4 x 8 threads, numbered so that any eight neighbours need at most 4 + 2 different vectors of a step
    thread   per step of the sum thread_rows / 4 + thread_columns / 4 loads of 16 bytes and
             thread_rows * thread_columns multiply-adds: 4 to 64 where it holds 8 x 8
"""

from typing import NamedTuple

from numba import cuda as numba_cuda
from numba import types

from sccengine.kernels.cuda import launch
from sccengine.kernels.cuda.intrinsics import load4
from sccengine.kernels.cuda.launch import device_cuda as cuda
from sccengine.kernels.cuda.unroll import static, unrolled

float32 = types.float32
int32 = types.int32

# Threads of a warp, as rows x columns. The simulator's threads are Python threads: it gets few.
LANE_ROWS, LANE_COLUMNS = (2, 2) if launch.SIMULATED else (4, 8)
WARP = LANE_ROWS * LANE_COLUMNS
# From one group of 4 of a thread to its next.
ROW_STEP = 4 * LANE_ROWS
COLUMN_STEP = 4 * LANE_COLUMNS


# Of the largest GPUs of today, H100 and H200. Rules and tables are made for them, whatever the GPU is.
MULTIPROCESSORS = 132
# What a launch should give to each of them, if the problem has it: eight warps.
WANTED_THREADS = MULTIPROCESSORS * 256


class Shape(NamedTuple):
    """A block's part of the result, tile x columns, summed in slabs of `depth` steps."""

    warp_rows: int
    warp_columns: int
    thread_rows: int
    thread_columns: int
    depth: int

    @property
    def threads(self):
        return self.warp_rows * self.warp_columns * WARP

    @property
    def tile(self):
        return self.warp_rows * LANE_ROWS * self.thread_rows

    @property
    def strip(self):
        """Rows of one warp."""
        return LANE_ROWS * self.thread_rows

    @property
    def columns(self):
        return self.warp_columns * LANE_COLUMNS * self.thread_columns


@numba_cuda.jit(device=True)
def row_in_warp(thread):
    """The first row of a thread among its warp's."""
    return int32((thread & 1 | (thread & (WARP - 1)) // (2 * LANE_COLUMNS) * 2) * 4)


@numba_cuda.jit(device=True)
def column_in_warp(thread):
    """The first column of a thread among its warp's."""
    return int32((thread >> 1 & (LANE_COLUMNS - 1)) * 4)


def multiplication(shape, left_pitch, right_pitch):
    """The device function multiply(shared, left, right, total): total[i, j] += sum_d left[d, i] * right[d, j].

    left and right are where this thread's first row and first column of step d = 0 stand in shared memory; a step
    further on they stand left_pitch and right_pitch elements further on.
    """
    thread_rows, thread_columns, depth = shape.thread_rows, shape.thread_columns, shape.depth

    @numba_cuda.jit(device=True)
    @unrolled
    def multiply(shared, left, right, total):
        for d in static(depth):
            a = cuda.local.array(thread_rows, float32)
            b = cuda.local.array(thread_columns, float32)
            for i in range(thread_rows // 4):
                # Not cast to int32: a sum of 64 bits keeps its constant apart, as an offset in the instruction.
                at = left + (d * left_pitch + i * ROW_STEP)
                a[4 * i], a[4 * i + 1], a[4 * i + 2], a[4 * i + 3] = load4(shared, at)
            for j in range(thread_columns // 4):
                at = right + (d * right_pitch + j * COLUMN_STEP)
                b[4 * j], b[4 * j + 1], b[4 * j + 2], b[4 * j + 3] = load4(shared, at)
            for i in range(thread_rows):
                for j in range(thread_columns):
                    total[i, j] += a[i] * b[j]

    return multiply


def done_of(busy, pieces, warps):
    """What warps do of pieces * warps products if they skip those whose bits in `busy` (one number a piece) are 0.

    Half of what is skipped counts as done, because warps wait for each other at the barriers.
    """
    working = sum(bin(bits).count("1") for bits in busy.ravel().tolist())
    return (pieces * warps + working) / 2
