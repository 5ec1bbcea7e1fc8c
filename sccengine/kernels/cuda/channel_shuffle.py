"""Channel shuffle: channel c = g * (C / groups) + i of x becomes channel i * groups + g of y.

In batch-last memory a channel is one contiguous row of M = H*W*N numbers, so this is a permutation of rows. The
inverse, and so the backward, is the same shuffle with C / groups groups. One thread per element.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from sccengine.kernels.cuda.indexing import quotient, thread_index
from sccengine.kernels.cuda.launch import Build, elements


@cuda.jit
def forward_v1(
    x,  # (C, M)
    y,  # (C, M)
    groups,
    per_group,  # C / groups
    length,  # M
):
    i = thread_index()
    if i >= y.size:
        return
    channel = quotient(i, length)
    member = quotient(channel, groups)
    group = channel - member * groups
    source = group * per_group + member
    y[i] = x[np.uint32(source * length + (i - channel * length))]


def forward(x, y, groups):
    """y (C, M) from x (C, M)."""
    channels, length = x.shape
    elements(forward_v1, y.size, x, y, groups, channels // groups, length)


COMPILE = [
    Build(forward_v1, "FFiii"),
]
