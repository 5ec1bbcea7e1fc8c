"""Partial results added up in a fixed order, so that the same inputs give the same bits.

    result[i] = sums[0, i] + sums[1, i] + ...

add_splits, for a contraction whose panels were cut: few parts of many elements, a thread each; bias and ReLU come last.
add_spans, for dweight: many parts of few elements. A block takes ELEMENTS of them; GROUPS threads for each add every
GROUPS-th part, and their sums are added in order.

Both move (parts + 1) * result bytes and do nothing else.
"""

from numba import cuda, types

from sccengine.kernels.cuda import launch
from sccengine.kernels.cuda.indexing import quotient, thread_index
from sccengine.kernels.cuda.intrinsics import load, store

float32 = types.float32
int32 = types.int32

ELEMENTS, GROUPS = (4, 2) if launch.SIMULATED else (32, 16)
THREADS = ELEMENTS * GROUPS


@cuda.jit
def add_splits_v1(
    sums,  # (splits, R, M)
    bias,  # (R,), read only if has_bias
    result,  # (R, M)
    has_bias,
    relu,
    splits,
    M,
    size,  # R * M
):
    i = thread_index()
    if i >= size:
        return
    total = load(sums, i)
    for s in range(1, splits):
        total += load(sums, int32(s * size + i))
    if has_bias:
        total += load(bias, quotient(i, M))
    # A comparison, because max(NaN, 0) is 0 on a GPU.
    store(result, i, float32(0) if relu and total <= 0 else total)


@cuda.jit
def add_spans_v1(
    sums,  # (spans, size)
    result,  # (size,)
    spans,
    size,
):
    partial = cuda.shared.array(THREADS, float32)
    thread = int32(cuda.threadIdx.x)
    element = int32(thread % ELEMENTS)
    i = int32(cuda.blockIdx.x * ELEMENTS + element)
    total = float32(0)
    if i < size:
        for s in range(thread // ELEMENTS, spans, GROUPS):
            total += load(sums, int32(s * size + i))
    store(partial, thread, total)
    cuda.syncthreads()
    if thread < ELEMENTS and i < size:
        for group in range(1, GROUPS):
            total += load(partial, int32(group * ELEMENTS + element))
        store(result, i, total)


def add_splits(sums, bias, result, relu):
    """result (R, M) from sums (splits, R, M), bias (R,) or None added; relu: whether negative sums become 0."""
    sizes = sums.shape[0], result.shape[1], result.size
    launch.elements(add_splits_v1, result.size, sums, bias, result, bias is not None, relu, *sizes)


def add_spans(sums, result):
    """result from sums (spans, *result.shape)."""
    grid = launch.divide_up(result.size, ELEMENTS)
    launch.blocks(add_spans_v1, grid, THREADS, sums, result, sums.shape[0], result.size)


COMPILE = [
    launch.Build(add_splits_v1, "FFFiiiii", dtypes=("float32",)),
    launch.Build(add_spans_v1, "FFii", dtypes=("float32",)),
]
