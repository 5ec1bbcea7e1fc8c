"""The AdamW step with decoupled weight decay by PyTorch's rule, in place, for all parameters of a group in one launch.

    m = beta1 * m + (1 - beta1) * g        v = beta2 * v + (1 - beta2) * g**2
    parameter = parameter * (1 - lr * weight_decay)
                - lr / (1 - beta1**step) * m / (sqrt(v) / sqrt(1 - beta2**step) + eps)

(Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.) What does not depend on the element is
computed once, on the host and in float64: 1 - beta2**step has few correct digits in float32 when step is small. It
comes as an array, `rates`, because it changes with every step:

    beta1, 1 - beta1, beta2, 1 - beta2, 1 - lr * weight_decay, lr / (1 - beta1**step), sqrt(1 - beta2**step), eps

Floor: read p, g, m and v, write p, m and v, 28 bytes a parameter in float32; the root and the division hide behind it.

v1  one thread an element, one launch a parameter: a network of fifty small tensors is fifty launches
v2  all tensors in one launch (multi_tensor.py), 128 bits an access; the same operations in the same order
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from sccengine.kernels.cuda.indexing import thread_index
from sccengine.kernels.cuda.intrinsics import load, load4, store, store4, tensor_at
from sccengine.kernels.cuda.launch import Build
from sccengine.kernels.cuda.multi_tensor import THREADS, batches, chunk, count_in_fours


@cuda.jit(device=True)
def _numbers(number, rates):
    """The eight rates in the dtype of the parameters."""
    return (
        number(rates[0]),
        number(rates[1]),
        number(rates[2]),
        number(rates[3]),
        number(rates[4]),
        number(rates[5]),
        number(rates[6]),
        number(rates[7]),
    )


@cuda.jit(device=True)
def _moved(p, g, m, v, numbers):
    """(parameter, first moment, second moment) after the step."""
    keep1, take1, keep2, take2, shrink, step_size, correction, eps = numbers
    # Written as fma: of a * b + c * d the compiler could fuse either product, and not the same one in every kernel.
    m = cuda.fma(keep1, m, take1 * g)
    v = cuda.fma(keep2, v, take2 * g * g)
    return cuda.fma(p, shrink, -(step_size * m / (math.sqrt(v) / correction + eps))), m, v


@cuda.jit
def update_v1(
    parameter,  # (M,), in and out
    gradient,  # (M,)
    first_moment,  # (M,), in and out
    second_moment,  # (M,), in and out
    rates,  # (8,), float64
    M,
):
    i = thread_index()
    if i >= M:
        return
    numbers = _numbers(parameter.dtype.type, rates)
    p, m, v = _moved(parameter[i], gradient[i], first_moment[i], second_moment[i], numbers)
    parameter[i] = p
    first_moment[i] = m
    second_moment[i] = v


@cuda.jit
def update_v2(
    like,  # an array of the parameters' dtype
    addresses,  # (tensors, 4), uint64: parameter, gradient, first moment and second moment
    chunks,  # (grid size, 3)
    rates,  # (8,), float64
):
    numbers = _numbers(like.dtype.type, rates)
    tensor, first, count = chunk(chunks)
    row = np.int32(4 * tensor)
    parameter = tensor_at(addresses[row], first, count, like)
    gradient = tensor_at(addresses[row + 1], first, count, like)
    first_moment = tensor_at(addresses[row + 2], first, count, like)
    second_moment = tensor_at(addresses[row + 3], first, count, like)
    thread = np.int32(cuda.threadIdx.x)
    whole = count_in_fours(count, addresses, row, 4)
    for i in range(4 * thread, whole, 4 * THREADS):
        p0, p1, p2, p3 = load4(parameter, i)
        g0, g1, g2, g3 = load4(gradient, i)
        m0, m1, m2, m3 = load4(first_moment, i)
        v0, v1, v2, v3 = load4(second_moment, i)
        p0, m0, v0 = _moved(p0, g0, m0, v0, numbers)
        p1, m1, v1 = _moved(p1, g1, m1, v1, numbers)
        p2, m2, v2 = _moved(p2, g2, m2, v2, numbers)
        p3, m3, v3 = _moved(p3, g3, m3, v3, numbers)
        store4(parameter, i, p0, p1, p2, p3)
        store4(first_moment, i, m0, m1, m2, m3)
        store4(second_moment, i, v0, v1, v2, v3)
    for i in range(whole + thread, count, THREADS):
        p, m, v = _moved(load(parameter, i), load(gradient, i), load(first_moment, i), load(second_moment, i), numbers)
        store(parameter, i, p)
        store(first_moment, i, m)
        store(second_moment, i, v)


def update(parameters, gradients, first_moments, second_moments, rates):
    """One step of every parameter, in place; lists of C-contiguous arrays, rates as the header has them."""
    for batch in batches(parameters, gradients, first_moments, second_moments):
        batch.launch(update_v2, rates)


COMPILE = [
    Build(update_v1, "FFFFDi"),
    Build(update_v2, "FUID", instructions=("LDG.E.128", "STG.E.128")),
]
