"""y = factor * x, element by element: the weight of a loss. Its gradient is the same product of dy.

Floor: 8 bytes a float32 element.

v1  one thread per element; for arrays that do not begin at a multiple of 16 bytes
v2  one thread per four elements, 128 bits an access
"""

from __future__ import annotations

from numba import cuda

from sccengine.kernels.cuda.indexing import thread_index
from sccengine.kernels.cuda.intrinsics import load, load4, store, store4
from sccengine.kernels.cuda.launch import Build, elements
from sccengine.kernels.cuda.row_pieces import four_or_rest, fours, in_fours


@cuda.jit
def forward_v1(
    x,  # (M,)
    y,  # (M,)
    count,  # M
    factor,
):
    i = thread_index()
    if i < count:
        y[i] = factor * x[i]


@cuda.jit
def forward_v2(
    x,  # (M,)
    y,  # (M,)
    count,  # M
    factor,
):
    i, rest = four_or_rest(count)
    if rest == 4:
        x0, x1, x2, x3 = load4(x, i)
        store4(y, i, factor * x0, factor * x1, factor * x2, factor * x3)
    else:
        for k in range(i, i + rest):
            store(y, k, factor * load(x, k))


def forward(x, y, factor):
    """y = factor * x, both flat."""
    if in_fours(x, y):
        elements(forward_v2, fours(y.size), x, y, y.size, float(factor))
    else:
        elements(forward_v1, y.size, x, y, y.size, float(factor))


COMPILE = [
    Build(forward_v1, "FFif"),
    Build(forward_v2, "FFif", instructions=("LDG.E.128", "STG.E.128"), registers=32),
]
