"""Which thread does which columns, the memory it works in, and how sums of several become one."""

import numpy as np
from numba import get_num_threads

from sccengine.kernels.cpu.compile import jit
from sccengine.kernels.cpu.simd import VECTOR_BYTES


def share_count(parallel):
    """Into how many parts a launch divides its work: one a thread where it is parallel."""
    return get_num_threads() if parallel else 1


@jit
def share_of(index, count, unit, columns):
    """[begin, end) of the index-th of ``count`` nearly equal shares of the columns, in whole units but for the last."""
    units = (columns + unit - 1) // unit
    return index * units // count * unit, min((index + 1) * units // count * unit, columns)


@jit
def even_part(columns, most, unit):
    """The columns of each of the fewest parts of at most ``most`` that hold them all: nearly equal, in whole units, at
    least one."""
    parts = max((columns + most - 1) // most, 1)
    return max((columns + parts * unit - 1) // (parts * unit), 1) * unit


@jit
def add_segments(sums, begin, end, every, segments):
    """Add to sums[begin:end] what lies ``every`` numbers further on, and so on, for each segment after the first."""
    for segment in range(1, segments):
        other = segment * every
        for i in range(begin, end):
            sums[np.uint64(i)] += sums[np.uint64(other + i)]


@jit
def scratch(count, dtype):
    """An uninitialised array that begins with a cache line, so that no vector of it lies on two."""
    memory = np.empty(count + VECTOR_BYTES // 4, dtype)
    skipped = -memory.ctypes.data % VECTOR_BYTES // memory.itemsize
    return memory[skipped : skipped + count]


@jit
def zeros(count, dtype):
    """An array of zeros. Made in a parallel kernel itself, it would cost the waking of the other threads."""
    return np.zeros(count, dtype)
