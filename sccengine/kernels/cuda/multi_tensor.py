"""Many tensors in one launch: the parameters of a group with their gradients and optimizer state.

A kernel has a fixed list of arguments, and a network a hundred small tensors. So a kernel gets a table of addresses, a
row for each tensor, and a table of chunks, a row for each block; large and small tensors balance, because no block has
more than CHUNK elements::

    for batch in batches(parameters, gradients, buffers):          one for each dtype among the parameters
        batch.launch(kernel, *arguments)

    @cuda.jit
    def kernel(like, addresses, chunks, ...):
        tensor, first, count = chunk(chunks)                        this block's share, the same in all lists
        parameter = tensor_at(addresses[3 * tensor], first, count, like)
        gradient = tensor_at(addresses[3 * tensor + 1], first, count, like)
        ...
        whole = count_in_fours(count, addresses, 3 * tensor, 3)     128-bit accesses below it, single ones above

The chunk table of a list of sizes is uploaded once. Addresses change where gradients are allocated anew; a memory pool
gives mostly the same ones again, so the latest tables are kept, and a step uploads some hundred bytes or nothing, and
never waits. A step that is being captured gets a table of its own, which lives as long as the captured step.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numba import cuda as numba_cuda

from sccengine import backend
from sccengine.kernels.cuda import launch
from sccengine.kernels.cuda.launch import BLOCK as THREADS
from sccengine.kernels.cuda.launch import device_cuda as cuda

#: Elements of a block: enough to make little of reading the tables, few enough to share out a small network.
CHUNK = 16 * THREADS
#: How many tables of addresses are kept for use again.
KEPT = 64

_addresses = OrderedDict()
_chunks = {}


class Batch:
    """Tensors of one dtype on one device; ``tensors[t]`` holds those that belong together, of one size."""

    def __init__(self, tensors):
        self.like = tensors[0][0]
        device = backend.device_of(self.like)
        self.chunks = _chunk_table(device, tuple(group[0].size for group in tensors), self.like)
        self.addresses = _address_table(
            device, tuple(backend.address(a) for group in tensors for a in group), self.like
        )

    def __len__(self):
        """The number of blocks in a launch."""
        return len(self.chunks)

    def launch(self, kernel, *args):
        launch.blocks(kernel, len(self), THREADS, self.like, self.addresses, self.chunks, *args)


def batches(*lists):
    """A Batch for each dtype in the first of the lists; the lists run over the same tensors."""
    by_dtype = {}
    for tensors in zip(*lists, strict=True):
        by_dtype.setdefault(tensors[0].dtype, []).append(tensors)
    return [Batch(tensors) for tensors in by_dtype.values()]


def _address_table(device, addresses, like):
    if backend.current_capture() is not None:
        return backend.host_value(lambda: addresses, like, np.uint64)
    key = device, addresses
    if key not in _addresses:
        _addresses[key] = backend.host_value(lambda: addresses, like, np.uint64)
        if len(_addresses) > KEPT:
            _addresses.popitem(last=False)
    _addresses.move_to_end(key)
    return _addresses[key]


def _chunk_table(device, sizes, like):
    key = device, sizes
    if key not in _chunks:
        rows = [(t, first, min(CHUNK, size - first)) for t, size in enumerate(sizes) for first in range(0, size, CHUNK)]
        _chunks[key] = launch.table(np.array(rows, np.int32).reshape(-1, 3), like)
    return _chunks[key]


@numba_cuda.jit(device=True)
def chunk(
    chunks,  # (grid size, 3): tensor, first element, number of elements
):
    """(tensor, first, count) of this block."""
    row = np.int32(3 * cuda.blockIdx.x)
    return chunks[row], chunks[row + 1], chunks[row + 2]


@numba_cuda.jit(device=True)
def count_in_fours(
    count,
    addresses,  # of all tensors
    row,  # where this tensor's begin
    length,  # how many it has
):
    """How many of `count` elements can be accessed four at a time: the whole fours, if all tensors are aligned."""
    together = addresses[row]
    for i in range(1, length):
        together |= addresses[row + i]
    return np.int32(count - count % 4) if together % np.uint64(16) == 0 else np.int32(0)
