"""Channel shuffle: y[(c % (C/G)) * G + c // (C/G)] = x[c], a permutation of rows.

Its inverse, the backward pass, is the same function with C // G groups.
"""

from numba import prange

from sccengine.kernels.cpu.compile import PARALLEL_WORK, jit, parallel_jit


@jit
def _copy(
    source,  # (M,)
    target,  # (M,)
):
    for m in range(target.size):
        target[m] = source[m]


@parallel_jit
def _forward(
    x,  # (C, M)
    y,  # (C, M)
    groups,
):
    width = x.shape[0] // groups
    for c in prange(x.shape[0]):
        _copy(x[c], y[(c % width) * groups + c // width])


def forward(
    x,  # (C, M)
    y,  # (C, M)
    groups,  # int, divides C
):
    _forward(x, y, groups, parallel=x.size >= PARALLEL_WORK)
