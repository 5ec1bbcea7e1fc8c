"""What a model makes of a data set: loss, accuracy, confusion matrix; and of single images: probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sccengine import backend
from sccengine.autograd import Tensor, as_array
from sccengine.data import ImageDataset, Loader
from sccengine.models.mode import device_of_model, evaluation_mode
from sccengine.nn import Module

_BATCH = 256

# Logits kept on a device before they are read: a reading waits for the device, so it is put off.
_PENDING_BYTES = 1 << 24


@dataclass(frozen=True)
class Evaluation:
    """loss: mean cross-entropy; accuracy: a fraction; confusion: int64 (classes, classes), row = true class."""

    loss: float
    accuracy: float
    confusion: np.ndarray

    @property
    def images(self):
        return int(self.confusion.sum())


def evaluate(model, loader, after_batch=None):
    """An Evaluation of `model` over all images of `loader`, in evaluation mode.

    `after_batch` is called after every batch; what it raises ends the evaluation. TypeError for what is no Module, and
    no Loader: a data set alone does not say how its images are prepared.
    """
    _check_model("evaluate", model)
    if not isinstance(loader, Loader):
        advice = ": data.Loader(dataset, 256) makes one" if isinstance(loader, ImageDataset) else ""
        raise TypeError(f"evaluate: loader must be a Loader, got {type(loader).__name__}{advice}")
    total, confusion = 0.0, None
    loader.rewind()
    with evaluation_mode(model):
        for logits, labels in _read_late(model, loader, after_batch):
            scores = log_softmax(logits)
            if confusion is None:
                confusion = np.zeros((scores.shape[1],) * 2, np.int64)
            total -= float(scores[np.arange(len(labels)), labels].sum())
            np.add.at(confusion, (labels, scores.argmax(axis=1)), 1)
    images = int(confusion.sum())
    return Evaluation(total / images, int(np.trace(confusion)) / images, confusion)


def _read_late(model, loader, after_batch):
    """(logits, labels) of every batch, as NumPy arrays: on the CPU at once, from a device many batches at a time."""
    device, pending, size = device_of_model(model), [], 0
    for images, labels in loader:
        logits = model(Tensor(images, device=device))
        pending.append((logits, labels))
        size += logits.array.nbytes
        if device == "cpu" or size >= _PENDING_BYTES:
            yield from _read(pending)
            pending, size = [], 0
        if after_batch is not None:
            after_batch()
    yield from _read(pending)


def _read(pending):
    return [(logits.numpy(), backend.to_host(labels)) for logits, labels in pending]


def predict(model, images):
    """Class probabilities, float64 (N, classes), of images (N, C, H, W) prepared as in training.

    `images` is an array or a Tensor; TypeError for anything else, and for images that are not prepared (uint8).
    """
    _check_model("predict", model)
    if isinstance(images, (Loader, ImageDataset)):
        raise TypeError(
            f"predict: images must be an array (N, C, H, W), got {type(images).__name__}: "
            "take a loader's, batch after batch: for images, labels in loader"
        )
    images = as_array(images)
    if images.dtype.kind != "f":
        raise TypeError(
            f"predict: images must be float32 or float64, prepared as in training, got {images.dtype}: "
            "Trainer.predict prepares uint8 images, and so does a data.Loader"
        )
    if not len(images):
        raise ValueError("predict: there is no image")
    with evaluation_mode(model):
        parts = [
            np.exp(log_softmax(model(Tensor(images[i : i + _BATCH], device=device_of_model(model))).numpy()))
            for i in range(0, len(images), _BATCH)
        ]
    return np.concatenate(parts)


def _check_model(caller, model):
    if not isinstance(model, Module):
        raise TypeError(f"{caller}: model must be a Module, got {type(model).__name__}")


def log_softmax(logits):
    """log softmax over the last axis, in float64: no large logit overflows."""
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
