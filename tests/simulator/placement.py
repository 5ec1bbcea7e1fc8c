"""Arrays that 128-bit accesses do not fit: kernels for one element at a time take them."""

import numpy as np


def as_given(array):
    return array


def misaligned(array):
    """A copy that begins one element after a multiple of 16 bytes."""
    memory = np.empty(array.size + 8, array.dtype)
    skipped = (-memory.ctypes.data // memory.itemsize) % (16 // memory.itemsize) + 1
    copy = memory[skipped : skipped + array.size].reshape(array.shape)
    copy[...] = array
    assert copy.ctypes.data % 16
    return copy


PLACES = (as_given, misaligned)
