"""The forward contraction of few columns, as of a linear layer or the last images of a network in a batch of one.

    y[f, m] = max(floor, bias[f] + scale[f] * sum_{k < K} weight[f, k] * x[(start[f] + k) mod C, m])

Tiles (scc_tiles.py) would spend their time on packing weights that are used for one vector or less. Here each is read
once, where it lies: a filter's taps are one run of memory, and so is what they are multiplied with, once the channels
of a column lie side by side, the first ones again after the last. Nothing else is multiplied, so infinities stay with
the filters that read them. Every sum is taken by one thread.
"""

import numpy as np
from numba import prange

from sccengine.kernels.cpu.compile import PARALLEL_WORK, jit, parallel_jit
from sccengine.kernels.cpu.shares import share_count, share_of

# Columns up to which dot products are faster than tiles, and how many are taken at once.
_FEW = 8
_AT_ONCE = 4


def serves(x):
    """Whether x (C, M) has so few columns."""
    return x.shape[1] <= _FEW


@jit
def _side_by_side(x, width):
    """Columns (M, C + K - 1) of x (C, M), the first K - 1 channels coming again; M rounded up, with zeros."""
    channels, count = x.shape
    columns = np.zeros((-(-count // _AT_ONCE) * _AT_ONCE, channels + width - 1), x.dtype)
    for m in range(count):
        for c in range(columns.shape[1]):
            columns[m, c] = x[c if c < channels else c - channels, m]
    return columns


@jit
def _dot_products(taps, first, second, third, fourth):
    """The sums of taps (K,) times each of four runs (K,)."""
    a = b = c = d = taps.dtype.type(0)
    for k in range(taps.size):
        tap = taps[k]
        a += tap * first[k]
        b += tap * second[k]
        c += tap * third[k]
        d += tap * fourth[k]
    return a, b, c, d


@jit
def _filter_columns(taps, columns, start, scale, bias, floor, y):
    """y (M,) of one filter."""
    end = start + taps.size
    for begin in range(0, y.size, _AT_ONCE):
        sums = _dot_products(
            taps,
            columns[begin, start:end],
            columns[begin + 1, start:end],
            columns[begin + 2, start:end],
            columns[begin + 3, start:end],
        )
        for i in range(min(_AT_ONCE, y.size - begin)):
            value = sums[i] * scale + bias
            y[begin + i] = floor if value < floor else value


@parallel_jit
def _contract(
    shares,  # of the filters, one a thread
    x,  # (C, M)
    weight,  # (O, K)
    scale,  # (O,), or empty: ones
    bias,  # (O,), or empty: zeros
    starts,  # (O,)
    floor,  # 0 for ReLU, -inf for none
    y,  # (O, M), written
):
    columns = _side_by_side(x, weight.shape[1])
    for index in prange(shares):
        begin, end = share_of(np.int64(index), shares, 1, len(y))
        for f in range(begin, end):
            factor = scale[f] if scale.size else weight.dtype.type(1)
            offset = bias[f] if bias.size else weight.dtype.type(0)
            _filter_columns(weight[f], columns, np.int64(starts[f]), factor, offset, floor, y[f])


def contract(x, weight, bias, y, windows, floor, scale):
    """y (O, M) from x (C, M), weight (O, K), and bias and scale, each (O,) or None; at least ``floor``."""
    absent = weight[0, :0]
    bias, scale = (absent if array is None else array for array in (bias, scale))
    parallel = weight.size >= PARALLEL_WORK
    _contract(share_count(parallel), x, weight, scale, bias, windows.starts, floor, y, parallel=parallel)
