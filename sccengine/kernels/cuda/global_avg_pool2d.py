"""Global average pooling: y[c,n] = (1 / P) * sum_p x[c,p,n]; backward dx[c,p,n] = dy[c,n] / P.

x (C, P, N), y (C, N), P = H*W. Neighbouring threads hold neighbouring n. The forward takes one thread per output
element, which adds P numbers in order; the backward one thread per input element.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from sccengine.kernels.cuda.indexing import quotient, thread_index
from sccengine.kernels.cuda.launch import Build, elements


@cuda.jit
def forward_v1(
    x,  # (C, P, N)
    y,  # (C, N)
    pixels,  # P
    batch,  # N
):
    i = thread_index()
    if i >= y.size:
        return
    channel = quotient(i, batch)
    first = np.int32(channel * pixels * batch + (i - channel * batch))
    total = y.dtype.type(0)
    for p in range(pixels):
        total += x[np.uint32(first + p * batch)]
    y[i] = total / y.dtype.type(pixels)


@cuda.jit
def backward_v1(
    dy,  # (C, N)
    dx,  # (C, P, N)
    pixels,  # P
    batch,  # N
):
    i = thread_index()
    if i >= dx.size:
        return
    row = quotient(i, batch)
    channel = quotient(row, pixels)
    dx[i] = dy[np.uint32(channel * batch + (i - row * batch))] / dx.dtype.type(pixels)


def forward(x, y):
    """y (C, N) from x (C, P, N)."""
    elements(forward_v1, y.size, x, y, *x.shape[1:])


def backward(dy, dx):
    """dx (C, P, N) from dy (C, N)."""
    elements(backward_v1, dx.size, dy, dx, *dx.shape[1:])


COMPILE = [
    Build(forward_v1, "FFii"),
    Build(backward_v1, "FFii"),
]
