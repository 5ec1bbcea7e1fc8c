"""SCC by gathering windows first: the two baselines of the DSXplore paper.

    stack[s,k,m] = x[(start(s) + k) mod C, m]                   gather: one window per slot s
    y[f,m]       = bias[f] + sum_k weight[f,k] * stack[slot(f),k,m]

    dstack[s,k,m] = sum over the filters f of slot s of weight[f,k] * dy[f,m]
    dx[c,m]       = sum over the slots s whose window holds c of dstack[s, (c - start(s)) mod C, m]
    dweight[f,k]  = sum_m dy[f,m] * stack[slot(f),k,m]

channel-stack   a slot for every filter: O*K rows, so a channel is copied once for each filter that reads it.
cyclic-stack    a slot for every distinct window: filters f and f + D read the same one, so D*K rows.

x (C, M), y (O, M), weight (O, K), stack (slots, K, M). What is easy here, plain contiguous operands for the
contraction, is paid for with a copy of x that is O/cg (or D/cg) times as large, written and read back.
"""

from functools import lru_cache

import numpy as np
from numba import cuda

from sccengine.kernels.cuda import launch
from sccengine.kernels.cuda.indexing import quotient
from sccengine.kernels.cuda.reduction import THREADS, block_sum
from sccengine.kernels.cuda.scc_window import channel_of, tap_of


class Slots:
    """The windows that are stacked, and which filters read which.

    starts   (slots,) the first channel of each slot's window
    slot_of  (O,) the slot that each filter reads
    order    (O,) the filters, sorted by slot
    begin    (slots + 1,) the filters of slot s are order[begin[s] : begin[s + 1]]
    """

    def __init__(self, windows, distinct):
        filters = np.arange(windows.out_channels)
        if distinct:
            self.starts, self.slot_of = np.unique(windows.starts, return_inverse=True)
        else:
            self.starts, self.slot_of = windows.starts, filters
        self.order = np.argsort(self.slot_of, kind="stable")
        self.begin = np.searchsorted(self.slot_of[self.order], np.arange(len(self.starts) + 1))


@cuda.jit
def gather_v1(
    x,  # (C, M)
    slot_starts,  # (slots,)
    stack,  # (slots, K, M)
    C,
    K,
    M,
    count,  # elements of stack
):
    i = cuda.grid(1)
    if i >= count:
        return
    row = quotient(i, M)
    slot = quotient(row, K)
    stack[i] = x[channel_of(slot_starts[slot], row - slot * K, C) * M + (i - row * M)]


@cuda.jit
def contract_v1(
    stack,  # (slots, K, M)
    weight,  # (O, K)
    bias,  # (O,), read only if has_bias
    slot_of,  # (O,)
    y,  # (O, M)
    has_bias,
    K,
    M,
    count,  # elements of y
):
    i = cuda.grid(1)
    if i >= count:
        return
    f = quotient(i, M)
    m = i - f * M
    total = bias[f] if has_bias else y.dtype.type(0)
    for k in range(K):
        total += weight[f * K + k] * stack[(slot_of[f] * K + k) * M + m]
    y[i] = total


@cuda.jit
def contract_transposed_v1(
    dy,  # (O, M)
    weight,  # (O, K)
    order,  # (O,)
    begin,  # (slots + 1,)
    dstack,  # (slots, K, M)
    K,
    M,
    count,  # elements of dstack
):
    i = cuda.grid(1)
    if i >= count:
        return
    row = quotient(i, M)
    m = i - row * M
    slot = quotient(row, K)
    k = row - slot * K
    total = dstack.dtype.type(0)
    for j in range(begin[slot], begin[slot + 1]):
        total += weight[order[j] * K + k] * dy[order[j] * M + m]
    dstack[i] = total


@cuda.jit
def gather_transposed_v1(
    dstack,  # (slots, K, M)
    slot_starts,  # (slots,)
    dx,  # (C, M)
    slots,
    C,
    K,
    M,
    count,  # elements of dx
):
    i = cuda.grid(1)
    if i >= count:
        return
    c = quotient(i, M)
    m = i - c * M
    total = dx.dtype.type(0)
    for slot in range(slots):
        k = tap_of(slot_starts[slot], c, C)
        if k < K:
            total += dstack[(slot * K + k) * M + m]
    dx[i] = total


@cuda.jit
def reduce_weight_v1(
    dy,  # (O, M)
    stack,  # (slots, K, M)
    slot_of,  # (O,)
    dweight,  # (O, K): one block for each entry
    K,
    M,
):
    partial = cuda.shared.array(THREADS, dy.dtype)
    f = quotient(cuda.blockIdx.x, K)
    row = slot_of[f] * K + (cuda.blockIdx.x - f * K)
    total = dy.dtype.type(0)
    for m in range(cuda.threadIdx.x, M, THREADS):
        total += dy[f * M + m] * stack[row * M + m]
    total = block_sum(partial, total)
    if cuda.threadIdx.x == 0:
        dweight[cuda.blockIdx.x] = total


def forward(x, weight, bias, y, windows, distinct):
    """y (O, M) from x (C, M), weight (O, K) and bias (O,) or None."""
    slots = _slots(windows, distinct)
    stack = _gather(x, windows, slots)
    slot_of = launch.table(slots.slot_of, x)
    sizes = windows.width, x.shape[1]
    launch.elements(contract_v1, y.size, stack, weight, bias, slot_of, y, bias is not None, *sizes, y.size)


def backward_input(dy, weight, dx, windows, distinct):
    """dx (C, M) from dy (O, M) and weight (O, K)."""
    slots = _slots(windows, distinct)
    order, begin, starts = (launch.table(each, dy) for each in (slots.order, slots.begin, slots.starts))
    sizes = windows.width, dy.shape[1]
    dstack = launch.empty((len(slots.starts), *sizes), like=dy)
    launch.elements(contract_transposed_v1, dstack.size, dy, weight, order, begin, dstack, *sizes, dstack.size)
    count = len(slots.starts)
    launch.elements(gather_transposed_v1, dx.size, dstack, starts, dx, count, windows.in_channels, *sizes, dx.size)


def backward_weight(dy, x, dweight, windows, distinct):
    """dweight (O, K) from dy (O, M) and x (C, M)."""
    slots = _slots(windows, distinct)
    stack = _gather(x, windows, slots)
    slot_of = launch.table(slots.slot_of, x)
    sizes = windows.width, x.shape[1]
    launch.blocks(reduce_weight_v1, dweight.size, THREADS, dy, stack, slot_of, dweight, *sizes)


@lru_cache(maxsize=1024)
def _slots(windows, distinct):
    return Slots(windows, distinct)


def _gather(x, windows, slots):
    sizes = windows.width, x.shape[1]
    stack = launch.empty((len(slots.starts), *sizes), like=x)
    starts = launch.table(slots.starts, x)
    launch.elements(gather_v1, stack.size, x, starts, stack, windows.in_channels, *sizes, stack.size)
    return stack


COMPILE = [
    launch.Build(gather_v1, "FIFiiii"),
    launch.Build(contract_v1, "FFFIFiiii"),
    launch.Build(contract_transposed_v1, "FFIIFiii"),
    launch.Build(gather_transposed_v1, "FIFiiiii"),
    launch.Build(reduce_weight_v1, "FFIFii"),
]
