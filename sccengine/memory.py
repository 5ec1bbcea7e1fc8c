"""Host memory for arrays, kept when they die and handed out again.

A training step makes the same arrays over and over. Returned to the system and asked for again, every page of them is
faulted in and zeroed anew, which costs more than many a kernel. A block here goes back to its size class when the
last view of its array is gone.
"""

import threading
import weakref
from contextlib import contextmanager

import numpy as np

# Below this many bytes the C library keeps freed memory by itself.
_SMALL = 1 << 17
_ALIGNMENT = 64
# Kept and used blocks together stay within the most that was ever in use, and a little for blocks of unequal size.
_SLACK = 1.25

_free = {}  # size class -> list of (block, its first aligned address)
_bytes = {"used": 0, "kept": 0, "peak": 0}
_lock = threading.RLock()  # a collection may end an array's life within these very functions
_accounts = []


def _give_back(entry, bytes_=_bytes, free=_free, lock=_lock, slack=_SLACK):
    # The defaults keep alive what a dying interpreter may have cleared already.
    size = len(entry[0])
    with lock:
        bytes_["used"] -= size
        if bytes_["used"] + bytes_["kept"] + size <= slack * bytes_["peak"]:
            bytes_["kept"] += size
            free.setdefault(size, []).append(entry)


class _Lease:
    """What an array's ``base`` points to: gives the block back when the last view dies."""

    __slots__ = ("entry", "__array_interface__")

    def __init__(self, entry, shape, dtype):
        self.entry = entry
        self.__array_interface__ = {"data": (entry[1], False), "shape": shape, "typestr": dtype.str, "version": 3}

    def __del__(self, give_back=_give_back):
        give_back(self.entry)


def empty(shape, dtype):
    """An uninitialised C-contiguous array, aligned to 64 bytes where it is large."""
    dtype = np.dtype(dtype)
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    if size < _SMALL:
        array = np.empty(shape, dtype)
    else:
        array = np.asarray(_Lease(_take(_size_class(size + _ALIGNMENT)), tuple(shape), dtype))
    if _accounts:
        for account in _accounts:
            account.note(array)
    return array


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


def _size_class(size):
    """``size`` rounded up to an eighth of its power of two, so that nearly equal sizes share blocks."""
    step = 1 << max(size.bit_length() - 4, 0)
    return -(-size // step) * step


def _take(size):
    with _lock:
        _bytes["used"] += size
        _bytes["peak"] = max(_bytes["peak"], _bytes["used"])
        entries = _free.get(size)
        if entries:
            _bytes["kept"] -= size
            return entries.pop()
    block = np.empty(size, np.uint8)
    address = block.__array_interface__["data"][0]
    return block, address + -address % _ALIGNMENT


def release():
    """Return all kept blocks to the system, and forget how much was in use at most."""
    with _lock:
        _free.clear()
        _bytes.update(kept=0, peak=_bytes["used"])
