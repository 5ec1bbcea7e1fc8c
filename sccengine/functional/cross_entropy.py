"""Softmax cross-entropy with label smoothing, averaged over the batch: one fused operator, stable for large logits.

loss = -1/N sum_n sum_o target[n, o] * log softmax(logits[n])[o]
target = (1 - s) * onehot(label) + s / O            dlogits = (softmax(logits) - target) / N
"""

from __future__ import annotations

import numpy as np

from sccengine.autograd import Function, Tensor
from sccengine.backend import contiguous, device_of, empty, from_rows, is_device_array, kernels_for, rows, to_device
from sccengine.functional import checks


class CrossEntropyFunction(Function):
    def __init__(self, labels, label_smoothing):
        self.labels = labels
        self.label_smoothing = label_smoothing

    def forward(self, logits):
        checks.rank("cross_entropy", logits, ("N", "O"))
        self.labels = _checked_labels(self.labels, logits)
        logits = rows(logits)
        samples = logits.shape[1]
        probabilities = empty(logits.shape, like=logits)
        losses = empty((1, samples), like=logits)
        total = empty((1,), like=logits)
        kernels = kernels_for(logits)
        kernels.cross_entropy.forward(logits, self.labels, probabilities, losses.reshape(-1), self.label_smoothing)
        kernels.rows.sum_rows(losses, total)
        total /= samples
        self.save(probabilities)
        return total.reshape(())

    def backward(self, dy):
        (probabilities,) = self.saved
        dlogits = empty(probabilities.shape, like=probabilities)
        scale = 1.0 / probabilities.shape[1]
        kernels_for(dlogits).cross_entropy.backward(probabilities, self.labels, scale, dlogits, self.label_smoothing)
        # Multiplied as an array: reading dy as a float would wait for the device.
        dlogits *= dy
        return (from_rows(dlogits),)


def _checked_labels(labels, logits):
    """The labels as int64 on the device of the logits (N, O); range checks of labels on a GPU wait for it."""
    samples, classes = logits.shape
    labels = labels.array if isinstance(labels, Tensor) else labels
    labels = labels if is_device_array(labels) else np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"cross_entropy: labels must be integers (class numbers), got dtype {labels.dtype}")
    if labels.shape != (samples,):
        raise ValueError(
            f"cross_entropy: labels must have shape ({samples},) for logits of shape {logits.shape}, got {labels.shape}"
        )
    bad = (labels < 0) | (labels >= classes)
    if bad.any():
        first = int(bad.argmax())
        raise ValueError(
            f"cross_entropy: labels must be at least 0 and below {classes}, got {int(labels[first])} at index {first}"
        )
    return to_device(contiguous(labels.astype(np.int64, copy=False)), device_of(logits))


def cross_entropy(logits, labels, label_smoothing=0.0):
    """Mean cross-entropy, a scalar of shape ().

    logits (N, O); labels (N,) of ints in [0, O), an array, a list or a Tensor; label_smoothing in [0, 1). Labels of
    wrong shape, kind or range are errors that name the first bad one.
    """
    label_smoothing = checks.fraction("cross_entropy", "label_smoothing", label_smoothing)
    return CrossEntropyFunction(labels, label_smoothing)(logits)
