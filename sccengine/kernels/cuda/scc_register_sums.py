"""Partial results added up in a fixed order, so that the same inputs give the same bits.

    result[i] = sums[0, i] + sums[1, i] + ...

add_splits, for a contraction whose panels were cut: few parts of many elements, a thread each; bias and ReLU come last.
add_spans, for dweight: often many parts of few elements. Several threads share an element, each adds every so many-th
part, and their sums are added in order; how many they are depends on the sizes alone.

Both move (parts + 1) * result bytes and do nothing else.
"""

from numba import cuda, types

from sccengine.kernels.cuda import launch
from sccengine.kernels.cuda.indexing import quotient, thread_index
from sccengine.kernels.cuda.intrinsics import load, store
from sccengine.kernels.cuda.scc_register_shape import MULTIPROCESSORS
from sccengine.kernels.cuda.unroll import static, unrolled

float32 = types.float32
int32 = types.int32

THREADS, MOST_GROUPS = (8, 4) if launch.SIMULATED else (256, 32)
# Numbers that a thread reads at once.
TOGETHER = 2 if launch.SIMULATED else 8
# So many threads fill the largest GPUs of today.
MOST_THREADS = MULTIPROCESSORS * 2048


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
@unrolled
def add_spans_v1(
    sums,  # (spans, size)
    result,  # (first,)
    rest,  # (size - first,)
    spans,
    groups,  # threads that share an element
    first,
    size,
):
    partial = cuda.shared.array(THREADS, float32)
    thread = int32(cuda.threadIdx.x)
    elements = quotient(THREADS, groups)
    group = quotient(thread, elements)
    i = int32(cuda.blockIdx.x * elements + (thread - group * elements))
    total = float32(0)
    if i < size:
        for s in range(group, spans, TOGETHER * groups):
            # Read together, so that their waits are one.
            for n in static(TOGETHER):
                at = int32(s + n * groups)
                value = load(sums, int32(min(at, spans - 1) * size + i))
                total += value if at < spans else float32(0)
    store(partial, thread, total)
    groups = groups >> 1
    while groups > 0:
        cuda.syncthreads()
        if group < groups:
            total += load(partial, int32(thread + groups * elements))
            store(partial, thread, total)
        groups = groups >> 1
    if group == 0 and i < size:
        if i < first:
            store(result, i, total)
        else:
            store(rest, int32(i - first), total)


def add_splits(sums, bias, result, relu):
    """result (R, M) from sums (splits, R, M), bias (R,) or None added; relu: whether negative sums become 0."""
    sizes = sums.shape[0], result.shape[1], result.size
    launch.elements(add_splits_v1, result.size, sums, bias, result, bias is not None, relu, *sizes)


def sums_of(spans, result, rest=None):
    """Where spans leave their sums for `add_spans`, a row each: those for result, and after them those for rest.

    It is result itself where there is nothing to add up.
    """
    if rest is None and spans == 1:
        return result
    return launch.empty((spans, result.size + (0 if rest is None else rest.size)), like=result)


def add_spans(sums, result, rest=None):
    """result, and rest unless it is None, from what `sums_of` gave for them."""
    if sums is result:
        return
    (spans, size), first = sums.shape, result.size
    # As many threads for an element as the machine has to spare, a power of two, if each has enough to read at once.
    groups = 1
    while groups < MOST_GROUPS and 2 * groups * TOGETHER <= spans and 2 * groups * size <= MOST_THREADS:
        groups *= 2
    grid = launch.divide_up(size, THREADS // groups)
    launch.blocks(add_spans_v1, grid, THREADS, sums, result, rest, spans, groups, first, size)


COMPILE = [
    launch.Build(add_splits_v1, "FFFiiiii", dtypes=("float32",)),
    launch.Build(add_spans_v1, "FFFiiii", dtypes=("float32",)),
]
