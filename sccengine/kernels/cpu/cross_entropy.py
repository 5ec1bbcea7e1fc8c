"""Softmax cross-entropy with label smoothing s, one column of logits an image, O classes:

    p = softmax(logits)          target[o] = (1 - s) * [o == label] + s / O
    loss = -sum_o target[o] * log p[o] = log sum_o exp(l[o] - max) - sum_o target[o] * (l[o] - max)
    dlogits = (p - target) * scale

The maximum is taken off before exp, so no finite logit overflows. Sums run in float64.
"""

import numpy as np
from numba import prange

from sccengine.kernels.cpu.compile import PARALLEL_WORK, jit, parallel_jit

#: An exponential costs about as much as this many plain reads.
_EXP_WORK = 16


@jit
def _column(
    logits,  # (O, N)
    label,
    n,
    probabilities,  # (O, N)
    label_smoothing,
):
    classes = logits.shape[0]
    top = logits[0, n]
    for o in range(1, classes):
        top = max(top, logits[o, n])
    total = 0.0
    mean = 0.0
    for o in range(classes):
        shifted = logits[o, n] - top
        mean += shifted
        power = np.exp(shifted)
        probabilities[o, n] = power
        total += power
    for o in range(classes):
        probabilities[o, n] /= total
    loss = np.log(total) - (1.0 - label_smoothing) * np.float64(logits[label, n] - top)
    if label_smoothing > 0:
        loss -= label_smoothing * mean / classes
    return loss


@parallel_jit
def _forward(
    logits,  # (O, N)
    labels,  # (N,)
    probabilities,  # (O, N)
    losses,  # (N,)
    label_smoothing,
    parallel,
):
    if parallel:
        for n in prange(labels.size):
            losses[n] = _column(logits, labels[n], np.int64(n), probabilities, label_smoothing)
    else:
        for n in range(labels.size):
            losses[n] = _column(logits, labels[n], n, probabilities, label_smoothing)


@jit
def _backward(
    probabilities,  # (O, N)
    labels,  # (N,)
    scale,
    dlogits,  # (O, N)
    label_smoothing,
):
    classes = probabilities.shape[0]
    factor = dlogits.dtype.type(scale)
    elsewhere = dlogits.dtype.type(label_smoothing / classes)
    right = dlogits.dtype.type(1.0 - label_smoothing)
    for o in range(classes):
        for n in range(labels.size):
            target = elsewhere + right if labels[n] == o else elsewhere
            dlogits[o, n] = (probabilities[o, n] - target) * factor


def forward(
    logits,  # (O, N)
    labels,  # (N,) int64
    probabilities,  # (O, N), written
    losses,  # (N,), written
    label_smoothing,
):
    parallel = _EXP_WORK * logits.size >= PARALLEL_WORK
    _forward(logits, labels, probabilities, losses, float(label_smoothing), parallel)


def backward(
    probabilities,  # (O, N)
    labels,  # (N,) int64
    scale,
    dlogits,  # (O, N), written
    label_smoothing,
):
    _backward(probabilities, labels, float(scale), dlogits, float(label_smoothing))
