"""Rows of `length` numbers cut into pieces, a block each, and read four numbers an access whatever the length is.

In batch-last memory a channel is one contiguous row. A block a row would leave most of a GPU's multiprocessors (132 on
an H200) idle where there are 16 long rows, so long rows are cut, and a second step puts the results of the pieces
together. How, depends on the shape alone, never on the device: the same sums in the same order on every GPU.

    pieces, span, threads = cut(rows, length)               on the host; grid (rows, pieces), block (threads,)
    first, last = bounds(row, piece, length, span)          a block's elements of the flat array
    start, stop = whole_fours(first, last)                  those of them in fours that 128 bits (float64: twice) hold
    for i in range(start + own_four, stop, stride):         own_four, stride = share_of_fours()
        load4(x, i)
    i = edge(first, last, start, stop)                      one of the up to 6 others, or `last` for none

All arrays of a launch have the same shape, so one cut fits all. A row whose length is no multiple of 4 costs one
scalar access for each of its ends, no more.

Where every element is for itself, the whole array is one row of a four a thread:

    elements(kernel, fours(count), ...)                     on the host
    i, rest = four_or_rest(count)                           this thread's elements: 4, or the last 0 to 3
"""

from __future__ import annotations

import numpy as np
from numba import cuda as numba_cuda

from sccengine.kernels.cuda.indexing import thread_index
from sccengine.kernels.cuda.launch import SIMULATED, address, divide_up
from sccengine.kernels.cuda.launch import device_cuda as cuda

#: Most threads of a block: a multiple of the 32 that sum over a warp.
MOST_THREADS = 64 if SIMULATED else 256
#: Most pieces of a row: the lanes of the warp that puts them together.
MOST_PIECES = 32
#: Blocks from which on there is no cutting: four for each of 128 multiprocessors.
ENOUGH_BLOCKS = 8 if SIMULATED else 512
#: Least elements of a piece where there are several. Up to twice as many a row is one piece: it is read from memory
#: once, stays in the first-level cache, and everything is done in one launch.
LEAST_SPAN = 8 if SIMULATED else 8192


def cut(rows, length):
    """(pieces, span, threads): pieces of a row, elements of a piece (the last may have fewer), threads of a block."""
    pieces = max(1, min(MOST_PIECES, divide_up(ENOUGH_BLOCKS, rows), length // LEAST_SPAN))
    span = 4 * divide_up(length, 4 * pieces)
    return divide_up(length, span), span, min(MOST_THREADS, 32 * divide_up(span, 128))


def in_fours(*arrays):
    """Whether 128-bit accesses fit all the arrays (None: absent): they begin at multiples of 16 bytes."""
    return not any(array is not None and address(array) % 16 for array in arrays)


def fours(count):
    """How many threads take `count` elements, four each."""
    return divide_up(count, 4)


@numba_cuda.jit(device=True)
def bounds(row, piece, length, span):
    """First and last + 1 of a piece's elements in the flat array."""
    offset = np.int32(piece * span)
    row_start = np.int32(row * length)
    return np.int32(row_start + offset), np.int32(row_start + min(length, np.int32(offset + span)))


@numba_cuda.jit(device=True)
def whole_fours(first, last):
    """First and last + 1 of the elements in aligned fours that lie in first..last as a whole; equal without any."""
    start = np.int32(min(last, np.int32((first + 3) & ~3)))
    return start, np.int32(max(start, np.int32(last & ~3)))


@numba_cuda.jit(device=True)
def share_of_fours():
    """Where this thread's first four begins, and how far it is to its next."""
    return np.int32(4 * cuda.threadIdx.x), np.int32(4 * cuda.blockDim.x)


@numba_cuda.jit(device=True)
def edge(first, last, start, stop):
    """The element outside start..stop that is this thread's, or `last` for none."""
    i = np.int32(first + cuda.threadIdx.x)
    return i if i < start else np.int32(min(last, np.int32(stop + (i - start))))


@numba_cuda.jit(device=True)
def four_or_rest(count):
    """The first of this thread's elements, and how many they are: 4, or fewer at the end."""
    i = np.int32(4 * min(thread_index(), (count + 3) >> 2))
    return i, np.int32(max(0, min(4, np.int32(count - i))))
