"""The functions of intrinsics.py for Numba's CUDA simulator, on NumPy arrays and stricter than a GPU.

* An access outside its array or not aligned to its width raises IndexError.
* A copy lands in shared memory when its group is waited for, and until then the place holds NaN: a wait that lets one
  group too many stay under way, or a stage filled again while it is being read, shows in the results.
* A warp-wide operation is a meeting of 32 threads: the last to come computes it for all. tests/simulator has a
  scheduler with such a meeting (`meet_warp`); in Numba's own, whose threads run at the same time, a barrier makes it.

Matrix fragments are read here as the header of intrinsics.py has them; kernels and twins share that reading, so the
tests on a GPU compare one mma and one ldmatrix with NumPy before all else.
"""

import ctypes
import sys
import threading

import numpy as np
from numba.core import types
from numba.cuda.simulator.kernelapi import FakeCUDAShared
from numba.np.numpy_support import as_dtype

from sccengine.kernels.cuda.launch import device_cuda

__all__ = [
    "atomic_add",
    "bits",
    "commit_copies",
    "copy_async16",
    "copy_async4",
    "from_bf16",
    "from_bits",
    "ldmatrix_x4",
    "ldmatrix_x4_transposed",
    "load",
    "load2",
    "load4",
    "max_nan",
    "mma_bf16",
    "mma_tf32",
    "pack_bf16",
    "shuffle_xor",
    "store",
    "store2",
    "store4",
    "tensor_at",
    "thread_again",
    "to_bf16",
    "to_tf32",
    "wait_copies_0",
    "wait_copies_1",
    "wait_copies_2",
    "warp_sum",
]

WARP = 32
# How an element is accessed: told to arrays whose type has a method `accessed`, as those of a kernel that is watched.
# (The simulator's own arrays take an unknown attribute for an index.)
READ, WRITTEN, ADDED_TO = range(3)
# Seconds after which a lane gives up waiting for the others; they have ended with an error, or never come.
_PATIENCE = 60

_adding = threading.Lock()

_ROW = np.arange(WARP) // 4
_QUAD = np.arange(WARP) % 4


def _accept_alignment():
    """Let shared arrays take an alignment of None, in Numba's own simulator and in numba-cuda's.

    `frames` is how many calls back the kernel's line stands: one more for whoever puts a function between.
    """
    numbas_array = FakeCUDAShared.array

    def array(self, shape, dtype, alignment=None, frames=1):
        if shape == 0:
            return numbas_array(self, shape, dtype)
        # As in Numba, the line that asks tells one array from another.
        caller = sys._getframe(frames)
        element = as_dtype(dtype) if isinstance(dtype, types.Type) else dtype
        return self._allocations.setdefault((caller.f_code.co_filename, caller.f_lineno), np.empty(shape, element))

    FakeCUDAShared.array = array


_accept_alignment()


def _array(a):
    """The flat NumPy array under the simulator's wrappers."""
    while not isinstance(a, np.ndarray):
        a = a.__dict__.get("_item", a.__dict__.get("_ary"))
    return a.reshape(-1)


def _span(a, i, count, access):
    """The `count` elements of a from i, as a view; IndexError if they are not inside or not aligned."""
    flat, i = _array(a), int(i)
    if not 0 <= i <= flat.size - count:
        raise IndexError(f"elements {i} to {i + count - 1} of an array of {flat.size}")
    if i % count:
        raise IndexError(f"element {i} is not aligned to {count} elements")
    if hasattr(type(a), "accessed"):
        a.accessed(i, count, access)
    return flat[i : i + count]


def load(a, i):
    return _span(a, i, 1, READ)[0]


def store(a, i, value):
    _span(a, i, 1, WRITTEN)[0] = value


def atomic_add(a, i, value):
    with _adding:
        _span(a, i, 1, ADDED_TO)[0] += value


def load2(a, i):
    return tuple(_span(a, i, 2, READ))


def load4(a, i):
    return tuple(_span(a, i, 4, READ))


def store2(a, i, x, y):
    _span(a, i, 2, WRITTEN)[:] = x, y


def store4(a, i, x, y, z, w):
    _span(a, i, 4, WRITTEN)[:] = x, y, z, w


def tensor_at(address, first, count, like):
    dtype = _array(like).dtype
    octets = ctypes.c_char * (int(count) * dtype.itemsize)
    tensor = np.frombuffer(octets.from_address(int(address) + int(first) * dtype.itemsize), dtype)
    return like.sibling(tensor) if hasattr(type(like), "sibling") else tensor


class _Copies:
    """The copies of one thread: those of groups not yet waited for, and those of the group not yet committed."""

    def __init__(self):
        self.groups = []
        self.open = []


def _copies():
    # A scheduler that uses a Python thread for many CUDA threads takes the attribute away in between.
    thread = threading.current_thread()
    if not hasattr(thread, "copies"):
        thread.copies = _Copies()
    return thread.copies


def _copy_async(width, shared, si, global_, gi, nbytes):
    count = width // _array(shared).itemsize
    filled = int(nbytes) // _array(shared).itemsize
    to = _span(shared, si, count, WRITTEN)
    values = np.zeros(count, to.dtype)
    if filled:
        values[:filled] = _span(global_, gi, count, READ)[:filled]
    to.view(np.uint8)[:] = 0xFF  # NaN as float32 and as bf16
    _copies().open.append((shared, si, values))


def copy_async4(shared, si, global_, gi, nbytes):
    _copy_async(4, shared, si, global_, gi, nbytes)


def copy_async16(shared, si, global_, gi, nbytes):
    _copy_async(16, shared, si, global_, gi, nbytes)


def commit_copies():
    copies = _copies()
    copies.groups.append(copies.open)
    copies.open = []


def _wait_copies(under_way):
    groups = _copies().groups
    while len(groups) > under_way:
        for shared, si, values in groups.pop(0):
            _span(shared, si, values.size, WRITTEN)[:] = values


def wait_copies_0():
    _wait_copies(0)


def wait_copies_1():
    _wait_copies(1)


def wait_copies_2():
    _wait_copies(2)


class _Warp:
    """A meeting of 32 threads that run at the same time."""

    def __init__(self):
        self.rows = [None] * WARP
        self.barrier = threading.Barrier(WARP, self._compute)

    def _compute(self):
        self.results = self.function(self.rows)

    def meet(self, lane, row, function):
        self.rows[lane] = row
        self.function = function
        self.barrier.wait(_PATIENCE)
        # Nobody computes the next results before this lane, too, has come again.
        return self.results[lane]


_warps_lock = threading.Lock()


def _meet(row, function):
    """This lane's entry of function(rows), rows being what the 32 lanes of the warp came with."""
    thread = threading.current_thread()
    if hasattr(thread, "meet_warp"):
        return thread.meet_warp(row, function)
    manager = thread._manager
    if np.prod(manager._block_dim) % WARP:
        raise RuntimeError(f"a warp-wide operation needs blocks of whole warps, not {manager._block_dim} threads")
    with _warps_lock:
        warp = manager.__dict__.setdefault("warps", {}).setdefault(thread.thread_id // WARP, _Warp())
    return warp.meet(thread.thread_id % WARP, row, function)


def warp_wide(function):
    """Marks a function that all lanes of a warp call together; a scheduler must give each lane a thread then."""
    function.warp_wide = True
    return function


def _row(shared, i):
    """The row of a matrix that a lane gives, as four words of two elements."""
    return _span(shared, i, 16 // _array(shared).itemsize, READ).view(np.uint32)


def _matrices(rows):
    """Row r of matrix j is that of lane 8 j + r: (4, 8, 4) uint32."""
    return np.array(rows).reshape(4, 8, 4)


def _ldmatrix(rows):
    return [tuple(words) for words in _matrices(rows)[:, _ROW, _QUAD].T]


def _ldmatrix_transposed(rows):
    halves = np.ascontiguousarray(_matrices(rows).view(np.uint16).reshape(4, 8, 8).transpose(0, 2, 1))
    return [tuple(words) for words in halves.view(np.uint32)[:, _ROW, _QUAD].T]


@warp_wide
def ldmatrix_x4(shared, i):
    return _meet(_row(shared, i), _ldmatrix)


@warp_wide
def ldmatrix_x4_transposed(shared, i):
    return _meet(_row(shared, i), _ldmatrix_transposed)


def _operands(rows):
    """a (32, 4) and b (32, 2) as uint32, c (32, 4) as float32."""
    words = np.array([[int(word) for word in row[:6]] for row in rows], np.uint32)
    return words[:, :4], words[:, 4:], np.array([row[6:] for row in rows], np.float32)


def _accumulate(a, b, c):
    total = np.empty((16, 8), np.float32)
    for part, (row, column) in enumerate(((0, 0), (0, 1), (8, 0), (8, 1))):
        total[_ROW + row, 2 * _QUAD + column] = c[:, part]
    total += a @ b
    return [
        (total[r, 2 * q], total[r, 2 * q + 1], total[r + 8, 2 * q], total[r + 8, 2 * q + 1])
        for r, q in zip(_ROW, _QUAD)
    ]


def _mma_tf32(rows):
    a_words, b_words, c = _operands(rows)
    # The unit does not look at the 13 lowest bits.
    a_values, b_values = ((words & np.uint32(0xFFFFE000)).view(np.float32) for words in (a_words, b_words))
    a, b = np.empty((16, 8), np.float32), np.empty((8, 8), np.float32)
    for part, (row, column) in enumerate(((0, 0), (8, 0), (0, 4), (8, 4))):
        a[_ROW + row, _QUAD + column] = a_values[:, part]
    for part, row in enumerate((0, 4)):
        b[_QUAD + row, _ROW] = b_values[:, part]
    return _accumulate(a, b, c)


def _mma_bf16(rows):
    a_words, b_words, c = _operands(rows)
    a, b = np.empty((16, 16), np.float32), np.empty((16, 8), np.float32)
    for half, shift in enumerate((16, 0)):
        a_values, b_values = (
            (words << np.uint32(shift) & np.uint32(0xFFFF0000)).view(np.float32) for words in (a_words, b_words)
        )
        for part, (row, column) in enumerate(((0, 0), (8, 0), (0, 8), (8, 8))):
            a[_ROW + row, 2 * _QUAD + column + half] = a_values[:, part]
        for part, row in enumerate((0, 8)):
            b[2 * _QUAD + row + half, _ROW] = b_values[:, part]
    return _accumulate(a, b, c)


@warp_wide
def mma_tf32(a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
    return _meet((a0, a1, a2, a3, b0, b1, c0, c1, c2, c3), _mma_tf32)


@warp_wide
def mma_bf16(a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
    return _meet((a0, a1, a2, a3, b0, b1, c0, c1, c2, c3), _mma_bf16)


def thread_again():
    return np.int32(device_cuda.threadIdx.x)


def bits(x):
    return np.float32(x).view(np.uint32)


def from_bits(u):
    return np.uint32(u).view(np.float32)


def to_tf32(x):
    if np.isnan(x):
        return np.uint32(0x7FFFFFFF)
    return np.uint32((int(bits(x)) + 0x1000) & 0xFFFFE000)


def max_nan(x, y):
    return np.maximum(np.float32(x), np.float32(y))


def to_bf16(x):
    if np.isnan(x):
        return np.uint16(0x7FFF)
    word = int(bits(x))
    return np.uint16((word + 0x7FFF + (word >> 16 & 1)) >> 16)


def from_bf16(u):
    return np.uint32(int(u) << 16).view(np.float32)


def pack_bf16(low, high):
    return np.uint32(int(to_bf16(high)) << 16 | int(to_bf16(low)))


@warp_wide
def shuffle_xor(value, lane_mask):
    return _meet((value, int(lane_mask)), _exchange)


def _exchange(rows):
    return [rows[lane ^ lane_mask][0] for lane, (_, lane_mask) in enumerate(rows)]


@warp_wide
def warp_sum(value):
    return _meet(value, _sum)


def _sum(values):
    for lane_mask in (16, 8, 4, 2, 1):
        values = [value + values[lane ^ lane_mask] for lane, value in enumerate(values)]
    return values
