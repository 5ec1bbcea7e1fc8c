"""y = a + b, element by element, of one shape: the join of a residual branch. Its gradient is dy for both."""

from __future__ import annotations

from numba import cuda

from sccengine.kernels.cuda.indexing import thread_index
from sccengine.kernels.cuda.launch import Build, elements


@cuda.jit
def forward_v1(
    a,  # (M,)
    b,  # (M,)
    y,  # (M,)
):
    i = thread_index()
    if i < y.size:
        y[i] = a[i] + b[i]


def forward(a, b, y):
    """y = a + b, all flat."""
    elements(forward_v1, y.size, a, b, y)


COMPILE = [
    Build(forward_v1, "FFF"),
]
