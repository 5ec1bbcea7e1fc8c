"""y = a + b, element by element, of one shape: the join of a residual branch. Its gradient is dy for both.

Floor: 12 bytes a float32 element. Behind a batch norm the sum costs 4 of them: F.batch_norm(..., residual=b).

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
    a,  # (M,)
    b,  # (M,)
    y,  # (M,)
    count,  # M
):
    i = thread_index()
    if i < count:
        y[i] = a[i] + b[i]


@cuda.jit
def forward_v2(
    a,  # (M,)
    b,  # (M,)
    y,  # (M,)
    count,  # M
):
    i, rest = four_or_rest(count)
    if rest == 4:
        a0, a1, a2, a3 = load4(a, i)
        b0, b1, b2, b3 = load4(b, i)
        store4(y, i, a0 + b0, a1 + b1, a2 + b2, a3 + b3)
    else:
        for k in range(i, i + rest):
            store(y, k, load(a, k) + load(b, k))


def forward(a, b, y):
    """y = a + b, all flat."""
    if in_fours(a, b, y):
        elements(forward_v2, fours(y.size), a, b, y, y.size)
    else:
        elements(forward_v1, y.size, a, b, y, y.size)


COMPILE = [
    Build(forward_v1, "FFFi"),
    Build(forward_v2, "FFFi", instructions=("LDG.E.128", "STG.E.128"), registers=32),
]
