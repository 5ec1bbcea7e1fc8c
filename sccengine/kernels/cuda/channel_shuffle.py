"""Channel shuffle: channel c = g * (C / groups) + i of x becomes channel i * groups + g of y.

In batch-last memory a channel is one contiguous row of M = H*W*N numbers, so this is a permutation of rows. The
inverse, and so the backward, is the same shuffle with C / groups groups. Floor: 8 bytes a float32 element.

v1  one thread per element
v2  one thread per four elements, 128 bits an access; where M is a multiple of 4 and both arrays begin at multiples of
    16 bytes
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from sccengine.kernels.cuda.indexing import quotient, thread_index
from sccengine.kernels.cuda.intrinsics import load4, store4
from sccengine.kernels.cuda.launch import Build, elements
from sccengine.kernels.cuda.row_pieces import in_fours


@cuda.jit(device=True)
def _source(i, groups, per_group, length):
    """Where element i of y lies in x, for rows of `length` units."""
    channel = quotient(i, length)
    member = quotient(channel, groups)
    group = np.int32(channel - member * groups)
    return np.int32(np.int32(group * per_group + member) * length + np.int32(i - channel * length))


@cuda.jit
def forward_v1(
    x,  # (C, M)
    y,  # (C, M)
    count,  # C * M
    groups,
    per_group,  # C / groups
    length,  # M
):
    i = thread_index()
    if i < count:
        y[i] = x[np.uint32(_source(i, groups, per_group, length))]


@cuda.jit
def forward_v2(
    x,  # (C, M)
    y,  # (C, M)
    count,  # C * M / 4
    groups,
    per_group,  # C / groups
    length,  # M / 4
):
    i = thread_index()
    if i < count:
        x0, x1, x2, x3 = load4(x, np.int32(4 * _source(i, groups, per_group, length)))
        store4(y, np.int32(4 * i), x0, x1, x2, x3)


def forward(x, y, groups):
    """y (C, M) from x (C, M)."""
    channels, length = x.shape
    shape = (groups, channels // groups)
    if length % 4 == 0 and in_fours(x, y):
        elements(forward_v2, y.size // 4, x, y, y.size // 4, *shape, length // 4)
    else:
        elements(forward_v1, y.size, x, y, y.size, *shape, length)


COMPILE = [
    Build(forward_v1, "FFiiii"),
    Build(forward_v2, "FFiiii", instructions=("LDG.E.128", "STG.E.128"), registers=32),
]
