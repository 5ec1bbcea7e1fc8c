"""The memory of a launch: what lies where, and whether accesses to it are in order.

Every word of 4 bytes remembers who wrote it last and who has read it since. It is an error when

* an access is not aligned to its width, or lies outside the arrays of the launch or the block's shared memory;
* two threads of a block access a word between the same two barriers, and one of them writes;
* threads of two blocks access a word of global memory, and one of them writes;
* a block reads a word of shared memory that it has not written.

Atomic additions may meet and are not looked at, nor are parts of a word.
"""

import numpy as np

WORD = 4
# In place of a thread: none yet, more than one.
NOBODY, SEVERAL = -1, -2
NEVER = -1
# A moment is the number of a block, and of a barrier in it; what several blocks have read, no barrier orders.
BLOCK_OF_A_MOMENT = 32
BY_BLOCKS = 1 << 62
# Where the array of all memory begins; an address of 0 would mean none.
_LOWEST = 16


class Fault(RuntimeError):
    """What a GPU would refuse, or whose outcome it would leave open."""


class Space:
    """Memory accessed at arrays of addresses, one for each of the `threads` that take part, at their `moments`."""

    # Called as observer(space, addresses, bytes, threads) at every access.
    observer = None

    def __init__(self, name, size):
        self.name = name
        self._writer, self._reader = (np.full(size // WORD, NOBODY, np.int64) for _ in range(2))
        self._written, self._read = (np.full(size // WORD, NEVER, np.int64) for _ in range(2))

    def load(self, addresses, kind, count, threads, moments):
        """`count` elements of dtype `kind` from each address on, as a list of arrays."""
        self._note(self._on_read, addresses, kind.itemsize * count, threads, moments)
        elements, first = self._elements(addresses, kind)
        return [elements[first + i] for i in range(count)]

    def store(self, addresses, values, threads, moments):
        """Writes a list of arrays, one element behind the other."""
        kind = values[0].dtype
        self._note(self._on_write, addresses, kind.itemsize * len(values), threads, moments)
        elements, first = self._elements(addresses, kind)
        for i, value in enumerate(values):
            elements[first + i] = value

    def add(self, addresses, values):
        """Adds to elements, to some of them more than once."""
        self._check(addresses, values.dtype.itemsize)
        elements, first = self._elements(addresses, values.dtype)
        # NumPy makes a copy of all that it is given.
        np.add.at(elements[first.min() : first.max() + 1], first - first.min(), values)

    def _note(self, notice, addresses, size, threads, moments):
        self._check(addresses, size)
        if self.observer is not None and len(addresses):
            self.observer(self, addresses, size, threads)
        known = self._known(addresses)
        words, threads, moments = self._words(addresses[known]), threads[known], moments[known]
        if size < WORD and notice == self._on_write:
            self._writer[words], self._written[words] = threads, moments
        for i in range(size // WORD):
            notice(words + i, threads, moments)

    def _check(self, addresses, size):
        if (addresses % size).any():
            raise Fault(f"an access of {size} bytes to {self.name} memory is not aligned")
        if not self._inside(addresses, size)[self._known(addresses)].all():
            raise Fault(f"an access of {size} bytes lies outside {self.name} memory")

    def _on_read(self, words, threads, moments):
        writer = self._writer[words]
        self._refuse((writer != NOBODY) & (writer != threads) & self._unordered(self._written[words], moments), "read")
        before = self._read[words]
        alone = (before != moments) | (self._reader[words] == threads)
        self._reader[words] = np.where(alone, threads, SEVERAL)
        self._read[words] = np.where((before != NEVER) & _other_block(before, moments), BY_BLOCKS, moments)
        # Of threads that read a word together, the last has put down what it knows.
        after = self._read[words]
        self._reader[words[self._reader[words] != threads]] = SEVERAL
        self._read[words[_other_block(after, moments)]] = BY_BLOCKS

    def _on_write(self, words, threads, moments):
        for who, when in ((self._writer, self._written), (self._reader, self._read)):
            other = (who[words] != NOBODY) & (who[words] != threads)
            self._refuse(other & self._unordered(when[words], moments), "written")
        self._writer[words] = threads
        self._written[words] = moments
        self._refuse(self._writer[words] != threads, "written")

    def _refuse(self, faults, how):
        if faults.any():
            raise Fault(f"a word of {self.name} memory is {how} while another thread accesses it, in no order")

    def _known(self, addresses):
        return slice(None)


class Shared(Space):
    """The shared memory of blocks, `size` bytes each, one behind the other; addresses are those of `place`."""

    def __init__(self, blocks, size):
        self.size = size + -size % 16
        super().__init__("shared", blocks * self.size)
        self._bytes = np.full(blocks * self.size, 0xFF, np.uint8)  # floats: NaN

    def place(self, addresses, blocks):
        """Where addresses in the shared memory of `blocks` are."""
        if ((addresses < 0) | (addresses >= self.size)).any():
            raise Fault("an access lies outside the block's shared memory")
        return addresses + blocks * self.size

    def _on_read(self, words, threads, moments):
        if (self._writer[words] == NOBODY).any():
            raise Fault("a word of shared memory is read that the block has not written")
        super()._on_read(words, threads, moments)

    def _elements(self, addresses, kind):
        return self._bytes.view(kind), addresses // kind.itemsize

    def _words(self, addresses):
        return addresses // WORD

    def _inside(self, addresses, size):
        return addresses % self.size <= self.size - size

    def _unordered(self, before, moments):
        return before == moments


def _other_block(before, moments):
    return before >> BLOCK_OF_A_MOMENT != moments >> BLOCK_OF_A_MOMENT


class _Everything:
    __array_interface__ = {"shape": (1 << 47,), "typestr": "|u1", "data": (_LOWEST, False), "version": 3}


class Global(Space):
    """Arrays of this process at their own addresses."""

    def __init__(self, arrays):
        spans = _merged((array.ctypes.data, array.ctypes.data + array.nbytes) for array in arrays)
        self._starts, self._ends = np.array(spans, np.int64).T
        words = (self._ends - self._starts) // WORD + 2
        self._first_words = np.cumsum(words) - words
        # Tensors whose addresses the kernel finds in a table are not watched.
        self._others = any(array.dtype == np.uint64 for array in arrays)
        self._bytes = np.asarray(_Everything())
        super().__init__("global", WORD * int(words.sum()))

    def _elements(self, addresses, kind):
        return self._bytes.view(kind), (addresses - _LOWEST) // kind.itemsize

    def _which(self, addresses):
        return np.maximum(np.searchsorted(self._starts, addresses, side="right") - 1, 0)

    def _words(self, addresses):
        which = self._which(addresses)
        return self._first_words[which] + addresses // WORD - self._starts[which] // WORD

    def _inside(self, addresses, size):
        which = self._which(addresses)
        return (addresses >= self._starts[which]) & (addresses + size <= self._ends[which])

    def _known(self, addresses):
        return self._inside(addresses, 1) if self._others else slice(None)

    def _unordered(self, before, moments):
        return (before == moments) | _other_block(before, moments)


def _merged(spans):
    """Sorted pairs (start, end), where those that overlap are one."""
    merged = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged
