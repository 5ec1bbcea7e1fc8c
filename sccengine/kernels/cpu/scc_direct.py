"""The channel-window contraction without gathering: the paper's direct kernels, one row of the output at a time.

Forward takes a filter and adds, tap after tap, a scaled input row to its output row. Two backwards:

* output-centric (``scatter_*``, the paper's baseline): every output row hands its gradient to all that it read. On a
  GPU the hand-outs collide and need atomics; here each block of columns has one owner, so they need none.
* input-centric (``gather_*``, the paper's answer): every input row collects from the filters whose window covers it,
  and every entry of dweight reduces its own two rows.
"""

import numpy as np
from numba import prange

from sccengine.kernels.cpu.compile import jit, parallel_jit

# Columns handed out to one thread at once by the output-centric backward.
_BLOCK = 256


@jit
def _add_scaled(target, source, scale):
    """target += scale * source, two rows of equal length."""
    for j in range(len(target)):
        target[j] += scale * source[j]


@jit
def _dot(a, b):
    total = a.dtype.type(0)
    for j in range(len(a)):
        total += a[j] * b[j]
    return total


@parallel_jit
def _forward(x, weight, bias, starts, y):
    for f in prange(len(y)):
        y[f] = bias[f] if len(bias) else x.dtype.type(0)
        for k in range(weight.shape[1]):
            _add_scaled(y[f], x[(starts[f] + k) % len(x)], weight[f, k])


@parallel_jit
def _scatter_input(dy, weight, starts, dx):
    columns = dy.shape[1]
    for block in prange((columns + _BLOCK - 1) // _BLOCK):
        begin, end = block * _BLOCK, min((block + 1) * _BLOCK, columns)
        for c in range(len(dx)):
            dx[c, begin:end] = dx.dtype.type(0)
        for f in range(len(dy)):
            for k in range(weight.shape[1]):
                _add_scaled(dx[(starts[f] + k) % len(dx), begin:end], dy[f, begin:end], weight[f, k])


@parallel_jit
def _gather_input(dy, weight, starts, dx):
    for c in prange(len(dx)):
        dx[c] = dx.dtype.type(0)
        for f in range(len(dy)):
            tap = (c - starts[f]) % len(dx)
            if tap < weight.shape[1]:
                _add_scaled(dx[c], dy[f], weight[f, tap])


@parallel_jit
def _scatter_weight(dy, x, starts, dweight):
    for f in prange(len(dy)):
        for k in range(dweight.shape[1]):
            dweight[f, k] = x.dtype.type(0)
        for begin in range(0, dy.shape[1], _BLOCK):
            end = min(begin + _BLOCK, dy.shape[1])
            for k in range(dweight.shape[1]):
                dweight[f, k] += _dot(dy[f, begin:end], x[(starts[f] + k) % len(x), begin:end])


@parallel_jit
def _reduce_weight(dy, x, starts, dweight):
    for entry in prange(dweight.size):
        f, k = entry // dweight.shape[1], entry % dweight.shape[1]
        dweight[f, k] = _dot(dy[f], x[(starts[f] + k) % len(x)])


def forward(x, weight, bias, y, windows):
    """y (O, M) from x (C, M), weight (O, K) and bias (O,) or None."""
    bias = np.empty(0, x.dtype) if bias is None else bias
    _forward(x, weight, bias, windows.starts, y)


def scatter_input(dy, weight, dx, windows):
    """dx (C, M): every filter's gradient added to the rows that it read."""
    _scatter_input(dy, weight, windows.starts, dx)


def gather_input(dy, weight, dx, windows):
    """dx (C, M): every channel's sum over the filters that read it."""
    _gather_input(dy, weight, windows.starts, dx)


def scatter_weight(dy, x, dweight, windows):
    """dweight (O, K), block of columns after block of columns."""
    _scatter_weight(dy, x, windows.starts, dweight)


def reduce_weight(dy, x, dweight, windows):
    """dweight (O, K), every entry one product of two rows."""
    _reduce_weight(dy, x, windows.starts, dweight)
