"""Softmax cross-entropy with label smoothing s, one column of logits an image, O classes: mean loss and its gradient.

    p = softmax(logits)          target[o] = (1 - s) * [o == label] + s / O
    loss = -sum_o target[o] * log p[o] = log sum_o exp(l[o] - max) - sum_o target[o] * (l[o] - max)
    mean over the N images:  dlogits = (p - target) / N

The maximum is taken off before exp, so no finite logit overflows. Sums run in float64. A label outside [0, O) makes the
loss NaN.
"""

import math

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
    dlogits,  # (O, N), written where wanted
    wanted,
    label_smoothing,
):
    """The loss of image n."""
    classes, images = logits.shape
    top = logits[0, n]
    for o in range(1, classes):
        top = max(top, logits[o, n])
    total = 0.0
    mean = 0.0
    for o in range(classes):
        shifted = logits[o, n] - top
        mean += shifted
        power = np.exp(shifted)
        total += power
        if wanted:
            dlogits[o, n] = power
    valid = 0 <= label < classes
    elsewhere = label_smoothing / classes
    right = 1.0 - label_smoothing
    if wanted:
        scale = 1.0 / images if valid else math.nan
        for o in range(classes):
            target = elsewhere + right if label == o else elsewhere
            dlogits[o, n] = (dlogits[o, n] / total - target) * scale
    if not valid:
        return math.nan
    loss = np.log(total) - right * np.float64(logits[label, n] - top)
    if label_smoothing > 0:
        loss -= elsewhere * mean
    return loss


@parallel_jit
def _forward(
    logits,  # (O, N)
    labels,  # (N,)
    losses,  # (N,), written
    dlogits,  # (O, N), written where wanted
    wanted,
    label_smoothing,
):
    for n in prange(labels.size):
        losses[n] = _column(logits, labels[n], np.int64(n), dlogits, wanted, label_smoothing)


def forward(
    logits,  # (O, N)
    labels,  # (N,) int64
    loss,  # (1,), written: the mean
    dlogits,  # (O, N), written: the gradient of the mean; None: not wanted
    label_smoothing,
):
    losses = np.empty(labels.size)
    parallel = _EXP_WORK * logits.size >= PARALLEL_WORK
    wanted = dlogits is not None
    # One type for each argument, present or absent: Numba compiles once.
    _forward(logits, labels, losses, dlogits if wanted else logits, wanted, float(label_smoothing), parallel=parallel)
    loss[0] = losses.mean()


def backward(
    gradient,  # (O, N) of the mean loss
    dloss,  # (1,)
    dlogits,  # (O, N), written; may be gradient
):
    np.multiply(gradient, dloss[0], out=dlogits)
