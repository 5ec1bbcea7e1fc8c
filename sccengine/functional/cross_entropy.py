"""Softmax cross-entropy with label smoothing, averaged over the batch: one fused operator, stable for large logits.

loss = -1/N sum_n sum_o target[n, o] * log softmax(logits[n])[o]
target = (1 - s) * onehot(label) + s / O            dlogits = (softmax(logits) - target) / N

Forward computes dlogits along with the loss, in one launch on a GPU; backward multiplies it by the loss's gradient.
"""

from __future__ import annotations

import numpy as np

from sccengine import numeric
from sccengine.autograd import Function, Tensor
from sccengine.backend import (
    GuardedArray,
    contiguous,
    device_of,
    empty,
    from_rows,
    guarded,
    is_device_array,
    kernels_for,
    refuse_constant,
    rows,
    to_device,
)
from sccengine.functional import checks


class CrossEntropyFunction(Function):
    def __init__(self, labels, label_smoothing):
        self.labels = labels
        self.label_smoothing = label_smoothing

    def forward(self, logits):
        checks.rank("cross_entropy", logits, ("N", "O"))
        labels = _checked_labels(self.labels, logits)
        logits = rows(logits)
        loss = empty((1,), like=logits)
        dlogits = empty(logits.shape, like=logits) if self.needs_gradient[0] else None
        kernels_for(logits).cross_entropy.forward(logits, labels, loss, dlogits, self.label_smoothing)
        self.save(dlogits)
        return loss.reshape(())

    def backward(self, dy):
        (dlogits,) = self.saved
        # In place: nobody else knows it. By a kernel: reading dy as a float would wait for the device.
        kernels_for(dlogits).cross_entropy.backward(dlogits, dy.reshape(1), dlogits)
        return (from_rows(dlogits),)


def _checked_labels(labels, logits):
    """The labels as int64 on the device of the logits (N, O), their range checked where they are in host memory."""
    samples, classes = logits.shape
    labels = guarded(labels.array) if isinstance(labels, Tensor) else labels
    if not isinstance(labels, GuardedArray) and not is_device_array(labels):
        labels = np.asarray(labels)
        refuse_constant(labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"cross_entropy: labels must be integers (class numbers), got dtype {labels.dtype}")
    if labels.shape != (samples,):
        raise ValueError(
            f"cross_entropy: labels must have shape ({samples},) for logits of shape {logits.shape}, got {labels.shape}"
        )
    if device_of(logits) == "cpu":
        labels = to_device(labels, "cpu")
    if type(labels) is np.ndarray:
        bad = (labels < 0) | (labels >= classes)
        if bad.any():
            first = int(bad.argmax())
            raise ValueError(
                f"cross_entropy: labels must be at least 0 and below {classes}, got {int(labels[first])} "
                f"at index {first}"
            )
    return to_device(contiguous(labels.astype(np.int64, copy=False)), device_of(logits))


def cross_entropy(logits, labels, label_smoothing=0.0):
    """Mean cross-entropy, a scalar of shape ().

    logits (N, O); labels (N,) of ints in [0, O), an array, a list or a Tensor; label_smoothing in [0, 1). Labels of
    wrong shape, kind or range are errors that name the first bad one. Labels already on a GPU are not read back, which
    would wait for it, and a captured step reads none: there one out of range makes the loss NaN.
    """
    label_smoothing = numeric.below_one("cross_entropy", "label_smoothing", label_smoothing)
    return CrossEntropyFunction(labels, label_smoothing)(logits)
