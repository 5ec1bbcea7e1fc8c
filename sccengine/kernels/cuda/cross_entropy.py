"""Softmax cross-entropy over the O classes of each sample, with label smoothing s: the mean loss and its gradient.

    p[o,n] = exp(z[o,n] - max_o z[o,n]) / sum_o exp(z[o,n] - max_o z[o,n])
    target[o,n] = (1 - s) * [o == label[n]] + s / O
    loss = 1/N sum_n loss[n],  loss[n] = -sum_o target[o,n] * log p[o,n]
    dz[o,n] = (p[o,n] - target[o,n]) / N

logits z (O, N), labels (N,) int64 in [0, O). log p is z - max - log(sum), never the logarithm of a probability, so it
is finite for all finite logits. A label outside [0, O) reads nothing outside the array, and makes the loss NaN.

v1: one thread per sample, which walks down its column and writes the probabilities; neighbouring threads hold
neighbouring samples, so each step of the walk is a coalesced row. A second launch has one thread per logit for dz, and
the losses are still to be added.
v2: all of it in one launch. A block takes `width` samples and `slices` threads a sample: slices of up to 16 classes
each (of more than 512 classes, 32 slices), so that a column of 1000 classes is no walk of 1000 steps. Maximum and sum
of a column go through shared memory. Probabilities are not kept: dz is all that backward needs. Where N * slices is at
most 1024, one block does it all; else every block leaves its share of the loss, and a second launch adds the shares in
a fixed order. Floor: 4 bytes read and 4 written a float32 logit, which at N = 128, O = 10 is nothing: what counts there
is the one launch. The walk reads a logit three times, from the first-level cache after the first.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from sccengine.kernels.cuda.indexing import quotient, thread_index
from sccengine.kernels.cuda.intrinsics import load, store
from sccengine.kernels.cuda.launch import SIMULATED, Build, blocks, divide_up, elements, empty
from sccengine.kernels.cuda.reduction import warps_sum

#: Most threads of a block: a multiple of 32 * 32, or in the simulator of 32.
THREADS = 128 if SIMULATED else 1024
#: Classes of a slice.
SLICE = 4 if SIMULATED else 16


@cuda.jit
def forward_v1(
    logits,  # (O, N)
    labels,  # (N,), int64
    probabilities,  # (O, N), out
    losses,  # (N,), out
    classes,  # O
    batch,  # N
    label_smoothing,
):
    n = thread_index()
    if n >= batch:
        return
    highest = logits[n]
    for o in range(1, classes):
        highest = max(highest, logits[np.uint32(o * batch + n)])
    total = logits.dtype.type(0)
    for o in range(classes):
        exponential = math.exp(logits[np.uint32(o * batch + n)] - highest)
        probabilities[np.uint32(o * batch + n)] = exponential
        total += exponential
    log_total = math.log(total)
    loss = (logits.dtype.type(1) - label_smoothing) * (log_total - (logits[np.uint32(labels[n] * batch + n)] - highest))
    share = label_smoothing / logits.dtype.type(classes)
    for o in range(classes):
        i = np.uint32(o * batch + n)
        probabilities[i] = probabilities[i] / total
        # Not times a share of 0: a class ruled out by a logit of -inf would make the loss NaN.
        if share > 0:
            loss += share * (log_total - (logits[i] - highest))
    losses[n] = loss


@cuda.jit
def backward_v1(
    probabilities,  # (O, N)
    labels,  # (N,), int64
    dlogits,  # (O, N)
    count,  # O * N
    classes,  # O
    batch,  # N
    label_smoothing,
    scale,  # the gradient of every loss
):
    i = thread_index()
    if i >= count:
        return
    o = quotient(i, batch)
    target = label_smoothing / dlogits.dtype.type(classes)
    if o == labels[i - o * batch]:
        target += dlogits.dtype.type(1) - label_smoothing
    dlogits[i] = (probabilities[i] - target) * scale


@cuda.jit
def loss_v2(
    logits,  # (O, N)
    labels,  # (N,), int64
    loss,  # (grid size,), out: each block's share of the mean
    dlogits,  # (O, N), out where wanted
    classes,  # O
    batch,  # N
    width,  # samples of a block, a multiple of 32; thread t is in slice t // width
    slices,
    wanted,
    label_smoothing,
    weight,  # 1 / N
):
    shared = cuda.shared.array(THREADS, logits.dtype)
    number = logits.dtype.type
    own_slice = quotient(cuda.threadIdx.x, width)
    column = np.int32(cuda.threadIdx.x - own_slice * width)
    sample = np.int32(cuda.blockIdx.x * width + column)
    # Threads beyond the batch repeat the last sample, because all threads meet at barriers; they write nothing.
    n = np.int32(min(sample, batch - 1))
    label = labels[n]
    valid = 0 <= label and label < classes
    first = np.int32(own_slice * batch + n)
    step = np.int32(slices * batch)
    stop = np.int32(classes * batch)

    highest = number(-math.inf)
    for i in range(first, stop, step):
        highest = max(highest, load(logits, i))
    highest = _column_max(shared, highest, column, width, slices)

    total = spread = number(0)
    for i in range(first, stop, step):
        distance = load(logits, i) - highest
        total += math.exp(distance)
        spread += distance
    total = _column_sum(shared, total, column, width, slices)
    spread = _column_sum(shared, spread, column, width, slices)

    share = label_smoothing / number(classes)
    right = number(1) - label_smoothing
    if wanted and sample < batch:
        scale = weight if valid else number(math.nan)
        o = own_slice
        for i in range(first, stop, step):
            target = share + right if o == label else share
            store(dlogits, i, (math.exp(load(logits, i) - highest) / total - target) * scale)
            o = np.int32(o + slices)

    value = number(0)
    if own_slice == 0 and sample < batch:
        log_total = math.log(total)
        value = number(math.nan)
        if valid:
            value = right * (log_total - (load(logits, np.int32(label * batch + n)) - highest))
        # Not times a share of 0: a class ruled out by a logit of -inf would make the loss NaN.
        if share > 0:
            value += label_smoothing * log_total - share * spread
    value = warps_sum(shared, value)
    if cuda.threadIdx.x == 0:
        store(loss, np.int32(cuda.blockIdx.x), value * weight)


@cuda.jit
def add_losses_v2(
    shares,  # (count,)
    loss,  # (1,), out
    count,
):
    shared = cuda.shared.array(32, shares.dtype)
    total = shares.dtype.type(0)
    for i in range(cuda.threadIdx.x, count, cuda.blockDim.x):
        total += shares[i]
    total = warps_sum(shared, total)
    if cuda.threadIdx.x == 0:
        loss[0] = total


@cuda.jit
def backward_v2(
    gradient,  # (O, N) of the mean loss
    dloss,  # (1,)
    dlogits,  # (O, N), out; may be gradient
    count,  # O * N
):
    i = thread_index()
    if i < count:
        store(dlogits, i, load(gradient, i) * load(dloss, 0))


@cuda.jit(device=True)
def _column_max(shared, value, column, width, slices):
    """The largest of a column's values, one a slice, to all its threads; shared is free again afterwards."""
    shared[cuda.threadIdx.x] = value
    cuda.syncthreads()
    for k in range(slices):
        value = max(value, shared[np.uint32(k * width + column)])
    cuda.syncthreads()
    return value


@cuda.jit(device=True)
def _column_sum(shared, value, column, width, slices):
    """The sum of a column's values, one a slice, to all its threads; shared is free again afterwards."""
    shared[cuda.threadIdx.x] = value
    cuda.syncthreads()
    value = shared[column]
    for k in range(1, slices):
        value += shared[np.uint32(k * width + column)]
    cuda.syncthreads()
    return value


def _shares(classes, batch):
    """(slices, width): threads of a sample, a power of two, and samples of a block, a multiple of 32."""
    slices = 1
    while slices * SLICE < classes and 2 * slices * 32 <= THREADS:
        slices *= 2
    return slices, min(THREADS // slices, 32 * divide_up(batch, 32))


def forward(logits, labels, loss, dlogits, label_smoothing):
    """loss (1,), the mean, and its gradient dlogits (O, N; None: not wanted), from logits (O, N) and labels (N,)."""
    classes, batch = logits.shape
    slices, width = _shares(classes, batch)
    grid = divide_up(batch, width)
    parts = loss if grid == 1 else empty((grid,), like=loss)
    rule = (dlogits is not None, float(label_smoothing), 1.0 / batch)
    blocks(loss_v2, grid, slices * width, logits, labels, parts, dlogits, classes, batch, width, slices, *rule)
    if grid > 1:
        blocks(add_losses_v2, 1, min(THREADS, 32 * divide_up(grid, 32)), parts, loss, grid)


def backward(gradient, dloss, dlogits):
    """dlogits (O, N) = forward's gradient (O, N) times dloss (1,); it may be written in place."""
    elements(backward_v2, dlogits.size, gradient, dloss, dlogits, dlogits.size)


COMPILE = [
    Build(forward_v1, "FLFFiif"),
    Build(backward_v1, "FLFiiiff"),
    Build(loss_v2, "FLFFiiiiiff", registers=64),
    Build(add_losses_v2, "FFi", registers=32),
    Build(backward_v2, "FFFi", registers=32),
]
