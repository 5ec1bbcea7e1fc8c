"""Copying and filling flat arrays: what the training graph needs between operators, as launches like all the rest.

One element a thread, neighbouring threads on neighbouring elements: both are bound by memory, 8 bytes (copy) and
4 bytes (fill) for each float32 element.
"""

from __future__ import annotations

from numba import cuda

from sccengine.kernels.cuda.indexing import thread_index
from sccengine.kernels.cuda.launch import Build, elements


@cuda.jit
def copy_v1(
    x,  # (n,)
    y,  # (n,)
    n,
):
    i = thread_index()
    if i < n:
        y[i] = x[i]


@cuda.jit
def fill_v1(
    y,  # (n,)
    value,
    n,
):
    i = thread_index()
    if i < n:
        y[i] = value


def copy(x, y):
    """y = x, both flat."""
    elements(copy_v1, y.size, x, y, y.size)


def fill(y, value):
    """Every element of y (flat) becomes `value`."""
    elements(fill_v1, y.size, y, float(value), y.size)


COMPILE = [
    Build(copy_v1, "FFi"),
    Build(fill_v1, "Ffi"),
]
