"""Clipping by the norm of all gradients together, without the host: their norm, and the multiplication in place.

    norm = sqrt(sum over all tensors of the sum of g**2)        g *= min(1, max_norm / (norm + 1e-6))

The sum is taken in float64 whatever the dtype, because it runs over millions of squares and float32 ends at 3e38. One
launch leaves a sum for each block, a second adds those and takes the root; which elements a block takes depends on the
tensors' sizes alone, so the norm has the same bits on every run. The factor is computed by every block for itself, and
where it is 1 (or NaN) the gradients are not even read.

Floor: 4 bytes read a gradient for the norm, 4 read and 4 written for the scaling, in float32.

v1  one tensor a launch, one element at a time
v2  all tensors in one launch (multi_tensor.py), 128 bits an access
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from sccengine.kernels.cuda.indexing import thread_index
from sccengine.kernels.cuda.intrinsics import load, load4, store, store4, tensor_at
from sccengine.kernels.cuda.launch import Build, blocks, empty
from sccengine.kernels.cuda.multi_tensor import batches, chunk, count_in_fours
from sccengine.kernels.cuda.reduction import THREADS, block_sum

# PyTorch's: keeps the factor finite where all gradients are zero.
TINY = 1e-6


@cuda.jit
def squares_v1(
    gradient,  # (M,)
    partials,  # (grid size,), float64
    M,
):
    shared = cuda.shared.array(THREADS, partials.dtype)
    total = partials.dtype.type(0)
    for i in range(cuda.grid(1), M, cuda.gridsize(1)):
        value = partials.dtype.type(gradient[i])
        total += value * value
    total = block_sum(shared, total)
    if cuda.threadIdx.x == 0:
        partials[cuda.blockIdx.x] = total


@cuda.jit
def squares_v2(
    like,  # an array of the gradients' dtype
    addresses,  # (tensors,), uint64
    chunks,  # (grid size, 3)
    partials,  # (of all launches, grid size each), float64
    launched,  # how many of them belong to earlier launches
):
    shared = cuda.shared.array(THREADS, partials.dtype)
    number = partials.dtype.type
    tensor, first, count = chunk(chunks)
    gradient = tensor_at(addresses[tensor], first, count, like)
    thread = np.int32(cuda.threadIdx.x)
    whole = count_in_fours(count, addresses, tensor, 1)
    total = number(0)
    for i in range(4 * thread, whole, 4 * THREADS):
        g0, g1, g2, g3 = load4(gradient, i)
        total += number(g0) * number(g0)
        total += number(g1) * number(g1)
        total += number(g2) * number(g2)
        total += number(g3) * number(g3)
    for i in range(whole + thread, count, THREADS):
        g = number(load(gradient, i))
        total += g * g
    total = block_sum(shared, total)
    if thread == 0:
        partials[launched + cuda.blockIdx.x] = total


@cuda.jit
def root_v1(
    partials,  # (M,), float64
    out,  # (1,), float64
    M,
):
    shared = cuda.shared.array(THREADS, partials.dtype)
    share = partials.dtype.type(0)
    for i in range(cuda.threadIdx.x, M, THREADS):
        share += partials[i]
    share = block_sum(shared, share)
    if cuda.threadIdx.x == 0:
        out[0] = math.sqrt(share)


@cuda.jit(device=True)
def _factor(norm, max_norm):
    return max_norm / (norm[0] + TINY)


@cuda.jit
def scale_v1(
    gradient,  # (M,), in and out
    norm,  # (1,), float64
    max_norm,  # float64
    M,
):
    i = thread_index()
    factor = _factor(norm, max_norm)
    if i < M and not factor >= 1:
        gradient[i] *= gradient.dtype.type(factor)


@cuda.jit
def scale_v2(
    like,  # an array of the gradients' dtype
    addresses,  # (tensors,), uint64
    chunks,  # (grid size, 3)
    norm,  # (1,), float64
    max_norm,  # float64
):
    factor = _factor(norm, max_norm)
    if factor >= 1:
        return
    by = like.dtype.type(factor)
    tensor, first, count = chunk(chunks)
    gradient = tensor_at(addresses[tensor], first, count, like)
    thread = np.int32(cuda.threadIdx.x)
    whole = count_in_fours(count, addresses, tensor, 1)
    for i in range(4 * thread, whole, 4 * THREADS):
        g0, g1, g2, g3 = load4(gradient, i)
        store4(gradient, i, by * g0, by * g1, by * g2, by * g3)
    for i in range(whole + thread, count, THREADS):
        store(gradient, i, by * load(gradient, i))


def norm(gradients, out):
    """out (1,), float64: the root of the sum of the squares of all gradients, a list of C-contiguous arrays."""
    lists = batches(gradients)
    partials = empty((sum(len(batch) for batch in lists),), like=out)
    launched = 0
    for batch in lists:
        batch.launch(squares_v2, partials, launched)
        launched += len(batch)
    blocks(root_v1, 1, THREADS, partials, out, launched)


def scale(gradients, norm, max_norm):
    """Multiplies all gradients in place by min(1, max_norm / (norm + 1e-6)), norm being an array (1,), float64."""
    for batch in batches(gradients):
        batch.launch(scale_v2, norm, np.float64(max_norm))


COMPILE = [
    Build(squares_v1, "FDi"),
    Build(squares_v2, "FUIDi", instructions=("LDG.E.128",)),
    Build(root_v1, "DDi"),
    Build(scale_v1, "FDdi"),
    Build(scale_v2, "FUIDd", instructions=("LDG.E.128", "STG.E.128")),
]
