"""Host memory for arrays, kept when they die and handed out again.

A training step makes the same arrays over and over. Returned to the system and asked for again, every page of them is
faulted in and zeroed anew, which costs more than many a kernel. A block here goes back to its size class when the
last view of its array is gone. A captured step has blocks of its own (``pool_of_blocks``), from which nobody else is
served, so that it can be replayed on the same memory (``lasting``).
"""

import math
import threading
import weakref
from contextlib import contextmanager

import numpy as np

# Below this many bytes the C library keeps freed memory by itself.
_SMALL = 1 << 17
_ALIGNMENT = 64
# A little more than was ever in use, for blocks of unequal size.
_SLACK = 1.25

_lock = threading.RLock()  # a collection may end an array's life within these very functions
_accounts = []


class _Block(np.ndarray):
    """The bytes of a block. With a plain array NumPy would have views refer to it, past the lease between them."""


class _Lease(np.ndarray):
    """A view of a block in use, the ``base`` of an array: gives the block back when the last view of that is gone."""

    __slots__ = ("pool", "entry")

    def __del__(self):
        self.pool.give_back(self.entry)


class Pool:
    """Blocks of memory, in use or kept by size class; together at most ``slack`` times what was in use at most."""

    def __init__(self, slack):
        self._slack = slack
        self._free = {}  # size class -> list of (block, where its first aligned address is)
        self._used = self._kept = self._peak = 0

    def lease(self, size, shape, dtype):
        """An uninitialised array in a block of a size class."""
        entry = self._take(size)
        lease = entry[0].view(_Lease)
        lease.pool, lease.entry = self, entry
        return np.ndarray(shape, dtype, lease, entry[1])

    def _take(self, size):
        with _lock:
            self._used += size
            self._peak = max(self._peak, self._used)
            entries = self._free.get(size)
            if entries:
                self._kept -= size
                return entries.pop()
        block = _Block(size, np.uint8)
        return block, -_address(block) % _ALIGNMENT

    def give_back(self, entry, lock=_lock):
        """Keep a block for the next array. (A dying interpreter may have cleared the module's names.)"""
        size = len(entry[0])
        with lock:
            self._used -= size
            if self._used + self._kept + size <= self._slack * self._peak:
                self._kept += size
                self._free.setdefault(size, []).append(entry)

    def release(self):
        """Return all kept blocks to the system, and forget how much was in use at most."""
        with _lock:
            self._free.clear()
            self._kept, self._peak = 0, self._used


_shared = Pool(_SLACK)


class _Thread(threading.local):
    pool = _shared


_thread = _Thread()


def empty(shape, dtype):
    """An uninitialised C-contiguous array, aligned to 64 bytes where it is large."""
    dtype = np.dtype(dtype)
    size = dtype.itemsize * math.prod(shape)
    if size < _SMALL:
        array = np.empty(shape, dtype)
    else:
        array = _thread.pool.lease(_size_class(size + _ALIGNMENT), shape, dtype)
    if _accounts:
        for account in _accounts:
            account.note(array)
    return array


def _size_class(size):
    """``size`` rounded up to an eighth of its power of two, so that nearly equal sizes share blocks."""
    step = 1 << max(size.bit_length() - 4, 0)
    return -(-size // step) * step


def release():
    """Return the blocks that nobody uses to the system."""
    _shared.release()


@contextmanager
def pool_of_blocks():
    """Within it, this thread's arrays are made in blocks that serve no others, then or later."""
    before, _thread.pool = _thread.pool, Pool(math.inf)
    try:
        yield
    finally:
        _thread.pool = before


def lasting(array):
    """The array over the same memory, which stays allocated, but may be handed out again once the array itself dies."""
    block = array
    while isinstance(block, np.ndarray) and not isinstance(block, _Block):
        block = block.base
    if not isinstance(block, _Block):
        return array.view(np.ndarray)
    return np.ndarray(array.shape, array.dtype, block, _address(array) - _address(block), array.strides)


def _address(array):
    return array.__array_interface__["data"][0]


class Account:
    """`peak`: the most bytes that the arrays noted had at once; one counts until the last view of it has died."""

    def __init__(self):
        self.used = self.peak = 0

    def note(self, array):
        """Count an array, which owns its memory, as long as it lives."""
        with _lock:
            self.used += array.nbytes
            self.peak = max(self.peak, self.used)
        weakref.finalize(array, self._forget, array.nbytes)

    def _forget(self, size):
        with _lock:
            self.used -= size


@contextmanager
def accounting():
    """Within it, the Account that it gives notes every array made here, small ones too: to the byte, whatever blocks
    are kept."""
    account = Account()
    _accounts.append(account)
    try:
        yield account
    finally:
        _accounts.remove(account)
