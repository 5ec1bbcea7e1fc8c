"""Softmax cross-entropy over the O classes of each sample, with label smoothing s.

    p[o,n] = exp(z[o,n] - max_o z[o,n]) / sum_o exp(z[o,n] - max_o z[o,n])
    target[o,n] = (1 - s) * [o == label[n]] + s / O
    loss[n] = -sum_o target[o,n] * log p[o,n]
    dz[o,n] = (p[o,n] - target[o,n]) * scale

logits z (O, N), labels (N,) int64 in [0, O), probabilities p (O, N), losses (N,). log p is z - max - log(sum), never
the logarithm of a probability, so it is finite for all finite logits.

v1: the forward takes one thread per sample, which walks down its column three times; neighbouring threads hold
neighbouring samples, so each step of the walk is a coalesced row. The backward takes one thread per logit.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from sccengine.kernels.cuda.indexing import quotient, thread_index
from sccengine.kernels.cuda.launch import Build, elements


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
    classes,  # O
    batch,  # N
    label_smoothing,
    scale,  # the gradient of every loss
):
    i = thread_index()
    if i >= dlogits.size:
        return
    o = quotient(i, batch)
    target = label_smoothing / dlogits.dtype.type(classes)
    if o == labels[i - o * batch]:
        target += dlogits.dtype.type(1) - label_smoothing
    dlogits[i] = (probabilities[i] - target) * scale


def forward(logits, labels, probabilities, losses, label_smoothing):
    """probabilities (O, N) and losses (N,), one for each sample, from logits (O, N) and labels (N,)."""
    classes, batch = logits.shape
    sizes = (classes, batch, float(label_smoothing))
    elements(forward_v1, batch, logits, labels, probabilities, losses, *sizes)


def backward(probabilities, labels, scale, dlogits, label_smoothing):
    """dlogits (O, N) from the forward's probabilities (O, N), where every loss has the gradient `scale`."""
    sizes = (*dlogits.shape, float(label_smoothing), float(scale))
    elements(backward_v1, dlogits.size, probabilities, labels, dlogits, *sizes)


COMPILE = [
    Build(forward_v1, "FLFFiif"),
    Build(backward_v1, "FLFiiff"),
]
