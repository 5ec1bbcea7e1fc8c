"""SCC without any gathered copy: kernels that read each filter's window where it lies.

    y[f,m]  = bias[f] + sum_{k<K} weight[f,k] * x[c,m]          c = (start[f] + k) mod C
    dx[c,m] = sum over the filters f that cover c of weight[f,k] * dy[f,m]
    dweight[f,k] = sum_m dy[f,m] * x[c,m]

x (C, M), y (O, M), weight (O, K), M = H*W*N. One thread makes one output element, neighbouring threads have
neighbouring m, so every access to x, y, dx and dy is coalesced. x is read K*O/C times, mostly from the caches.

The backward comes in the two ways the DSXplore paper compares:

output-centric  each element of dy adds its share to every dx and dweight it has influenced. Short to write, but
                many threads add to the same element: atomics, and an order of additions that changes from run to
                run, so results differ in their last bits.
input-centric   each element of dx asks which filters cover it and gathers from them, each element of dweight
                reduces its two rows: every element is written once, by one thread, in a fixed order.
"""

from numba import cuda

from sccengine.kernels.cuda import copy, launch
from sccengine.kernels.cuda.indexing import quotient
from sccengine.kernels.cuda.intrinsics import atomic_add
from sccengine.kernels.cuda.reduction import THREADS, block_sum
from sccengine.kernels.cuda.scc_window import channel_of, tap_of


@cuda.jit
def forward_v1(
    x,  # (C, M)
    weight,  # (O, K)
    bias,  # (O,), read only if has_bias
    starts,  # (O,)
    y,  # (O, M)
    has_bias,
    C,
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
        total += weight[f * K + k] * x[channel_of(starts[f], k, C) * M + m]
    y[i] = total


@cuda.jit
def scatter_input_v1(
    dy,  # (O, M)
    weight,  # (O, K)
    starts,  # (O,)
    dx,  # (C, M), zero before
    C,
    K,
    M,
    count,  # elements of dy
):
    i = cuda.grid(1)
    if i >= count:
        return
    f = quotient(i, M)
    m = i - f * M
    for k in range(K):
        atomic_add(dx, channel_of(starts[f], k, C) * M + m, weight[f * K + k] * dy[i])


@cuda.jit
def scatter_weight_v1(
    dy,  # (O, M)
    x,  # (C, M)
    starts,  # (O,)
    dweight,  # (O, K), zero before
    C,
    K,
    M,
    count,  # elements of dy
):
    i = cuda.grid(1)
    if i >= count:
        return
    f = quotient(i, M)
    m = i - f * M
    for k in range(K):
        atomic_add(dweight, f * K + k, dy[i] * x[channel_of(starts[f], k, C) * M + m])


@cuda.jit
def gather_input_v1(
    dy,  # (O, M)
    weight,  # (O, K)
    starts,  # (O,)
    covering,  # (R,): filters sorted by start; those that cover channel c are covering[first[c] : + length[c]]
    first,  # (C,)
    length,  # (C,)
    dx,  # (C, M)
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
    for j in range(first[c], first[c] + length[c]):
        f = covering[j]
        total += weight[f * K + tap_of(starts[f], c, C)] * dy[f * M + m]
    dx[i] = total


@cuda.jit
def reduce_weight_v1(
    dy,  # (O, M)
    x,  # (C, M)
    starts,  # (O,)
    dweight,  # (O, K): one block for each entry
    C,
    K,
    M,
):
    partial = cuda.shared.array(THREADS, dy.dtype)
    f = quotient(cuda.blockIdx.x, K)
    c = channel_of(starts[f], cuda.blockIdx.x - f * K, C)
    total = dy.dtype.type(0)
    for m in range(cuda.threadIdx.x, M, THREADS):
        total += dy[f * M + m] * x[c * M + m]
    total = block_sum(partial, total)
    if cuda.threadIdx.x == 0:
        dweight[cuda.blockIdx.x] = total


def forward(x, weight, bias, y, windows):
    """y (O, M) from x (C, M), weight (O, K) and bias (O,) or None."""
    starts = launch.table(windows.starts, x)
    launch.elements(forward_v1, y.size, x, weight, bias, starts, y, bias is not None, *_sizes(x, windows), y.size)


def scatter_input(dy, weight, dx, windows):
    """dx (C, M) from dy (O, M) and weight (O, K), by atomic additions: not deterministic."""
    copy.fill(dx, 0)
    starts = launch.table(windows.starts, dy)
    launch.elements(scatter_input_v1, dy.size, dy, weight, starts, dx, *_sizes(dx, windows), dy.size)


def scatter_weight(dy, x, dweight, windows):
    """dweight (O, K) from dy (O, M) and x (C, M), by atomic additions: not deterministic."""
    copy.fill(dweight, 0)
    starts = launch.table(windows.starts, dy)
    launch.elements(scatter_weight_v1, dy.size, dy, x, starts, dweight, *_sizes(x, windows), dy.size)


def gather_input(dy, weight, dx, windows):
    """dx (C, M) from dy (O, M) and weight (O, K)."""
    cover = windows.transposed_tiles(1)
    tables = [launch.table(each, dy) for each in (windows.starts, cover.panel, cover.first, cover.length)]
    launch.elements(gather_input_v1, dx.size, dy, weight, *tables, dx, *_sizes(dx, windows), dx.size)


def reduce_weight(dy, x, dweight, windows):
    """dweight (O, K) from dy (O, M) and x (C, M)."""
    starts = launch.table(windows.starts, dy)
    launch.blocks(reduce_weight_v1, dweight.size, THREADS, dy, x, starts, dweight, *_sizes(x, windows))


def _sizes(x, windows):
    return windows.in_channels, windows.width, x.shape[1]


COMPILE = [
    launch.Build(forward_v1, "FFFIFiiiii"),
    launch.Build(scatter_input_v1, "FFIFiiii"),
    launch.Build(scatter_weight_v1, "FFIFiiii"),
    launch.Build(gather_input_v1, "FFIIIIFiiii"),
    launch.Build(reduce_weight_v1, "FFIFiii"),
]
