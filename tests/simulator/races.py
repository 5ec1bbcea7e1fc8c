"""Finds data races of the kernels in the simulator: two accesses, one of them a write, that may happen in either order.

Every element of shared and global memory remembers who wrote it last and who has read it since. It is an error when

* two threads of a block access an element between the same two barriers, and one of them writes;
* threads of two blocks of a launch access an element of global memory, and one of them writes;
* a block reads an element of shared memory that it has not written;
* an index is negative, which NumPy counts from the end and a pointer does not.

Warp-wide operations order nothing: they exchange registers and promise nothing about memory. An asynchronous copy
writes when it begins and when it is waited for. Atomic additions may meet and are not looked at.
"""

import numpy as np
from numba.cuda.simulator.kernelapi import FakeCUDAShared

from sccengine.kernels.cuda import simulator_twins

# In place of a thread or a block: more than one has read.
SEVERAL = -1


class Race(RuntimeError):
    """A race, or a read of what was never written."""


class Moment:
    """A thread between two barriers. Threads and barriers have numbers of their own in every block of a launch."""

    __slots__ = ("barrier", "block", "thread")

    def __init__(self, thread, block, barrier):
        self.thread = thread
        self.block = block
        self.barrier = barrier


class Memory:
    """The last write of every element, and the reads that no barrier has ended since, by address."""

    def __init__(self, name, of_blocks):
        self.name = name
        self.of_blocks = of_blocks  # whether each block has its own
        self.writes = {}
        self.reads = {}

    def read(self, address):
        now = watcher.now
        write = self.writes.get(address)
        if write is not now:
            if write is not None and self._unordered(write, now):
                raise self._race("written", write, "read", now)
            if self.of_blocks and (write is None or write.block != now.block):
                raise Race(f"thread {now.thread} reads an element of {self.name} memory that its block has not written")
        read = self.reads.get(address)
        if read is None or read is now:
            self.reads[address] = now
        elif self._unordered(read, now):
            self.reads[address] = Moment(SEVERAL, now.block if read.block == now.block else SEVERAL, now.barrier)
        else:
            self.reads[address] = now

    def write(self, address):
        now = watcher.now
        for before, accesses in (("written", self.writes), ("read", self.reads)):
            access = accesses.get(address)
            if access is not None and access is not now and self._unordered(access, now):
                raise self._race(before, access, "written", now)
        self.writes[address] = now

    def _unordered(self, before, now):
        if before.thread == now.thread:
            return False
        return before.barrier == now.barrier or (before.block != now.block and not self.of_blocks)

    def _race(self, before, access, after, now):
        who = "several threads" if access.thread == SEVERAL else f"thread {access.thread} of block {access.block}"
        return Race(
            f"an element of {self.name} memory is {before} by {who} and {after} by thread {now.thread} of block "
            f"{now.block}, in no order"
        )


class Watched:
    """An array as a kernel sees it, whose memory hears of every access."""

    def __init__(self, array, memory):
        self._ary = array
        self._memory = memory
        self._address = array.__array_interface__["data"][0]
        self.dtype = array.dtype

    def __getitem__(self, index):
        element = self._ary[index]
        if isinstance(element, np.ndarray):
            return Watched(element, self._memory)
        self._memory.read(self._place(index))
        return element

    def __setitem__(self, index, value):
        self._ary[index] = value
        self._memory.write(self._place(index))

    def _place(self, index):
        indices = index if isinstance(index, tuple) else (index,)
        if min(indices) < 0:
            raise IndexError(f"negative index {index}")
        return self._address + sum(int(i) * stride for i, stride in zip(indices, self._ary.strides))

    def accessed(self, first, count, access):
        """What simulator_twins tells of its accesses to elements in memory order."""
        if access == simulator_twins.ADDED_TO:
            return
        note = self._memory.read if access == simulator_twins.READ else self._memory.write
        size = self._ary.itemsize
        start = self._address + first * size
        for address in range(start, start + count * size, size):
            note(address)

    def sibling(self, array):
        """`array`, which lies elsewhere in the same memory, as a kernel sees it."""
        return Watched(array, self._memory)


class Watcher:
    """Hears from the scheduler of every launch, every block and every thread that takes its turn."""

    def __init__(self):
        self.now = None

    def begin_launch(self):
        self.now = None
        self.threads = 0
        self.block = -1
        self.barrier = 0
        self.shared = Memory("shared", of_blocks=True)
        self.everywhere = Memory("global", of_blocks=False)

    def begin_block(self, threads, arguments):
        """The arguments as the block's threads are to see them."""
        self.first_thread, self.threads = self.threads, self.threads + threads
        self.block += 1
        self.first_barrier = self.barrier + 1
        return [
            argument
            if getattr(argument, "shape", ()) == ()
            else Watched(simulator_twins._array(argument), self.everywhere)
            for argument in arguments
        ]

    def resume(self, thread):
        barrier = self.first_barrier + thread.barriers
        self.barrier = max(self.barrier, barrier)
        self.now = Moment(self.first_thread + thread.thread_id, self.block, barrier)


watcher = Watcher()
_unwatched = FakeCUDAShared.array


def _shared_array(self, shape, dtype, alignment=None):
    array = _unwatched(self, shape, dtype, alignment, frames=2)
    return array if watcher.now is None else Watched(array, watcher.shared)


FakeCUDAShared.array = _shared_array
