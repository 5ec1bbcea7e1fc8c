"""Tally: loss and right predictions of every step, kept on the model's device until somebody asks.

Reading a GPU's memory waits for all work given to it before; done after each step, that leaves the GPU idle while the
host prepares the next one. So a step only notes its numbers, and `read` fetches those of many steps at once. They are
added up on the host, step by step, so sums do not depend on when they were read.
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import numpy as np

from sccengine import backend

#: Seconds between two readings of a device, about as often as a display is refreshed.
INTERVAL = 0.25


class Noted(NamedTuple):
    """One step: mean loss, right predictions, images."""

    loss: float
    right: int
    images: int


class Tally:
    """Numbers of at most `capacity` steps, on the device of the array `like`."""

    def __init__(self, like, capacity=1024):
        self._record = backend.zeros((1 + 2 * capacity,), like, np.float64)
        self._capacity = capacity
        self._images = []
        self._at_once = backend.device_of(like) == "cpu"
        self._due = 1
        self._since = time.monotonic()

    def note(self, logits, labels, loss):
        """Note one step: Tensors (N, O), (N,) and (). A launch, so it can be part of a captured step."""
        kernels = backend.kernels_for(self._record).tally
        kernels.append(backend.rows(logits.array), labels.array, loss.array.reshape(1), self._record)

    def count(self, images):
        """The host's part of noting a step: how many images it had."""
        self._images.append(images)

    @property
    def due(self):
        """Whether to read now: on a device after as many steps as take INTERVAL, going by the last reading."""
        return self._at_once or len(self._images) >= self._due

    def read(self):
        """What was noted since the last reading, in order; waits for the device."""
        if not self._images:
            return []
        steps = len(self._images)
        values = backend.to_host(self._record)[1 : 1 + 2 * steps].reshape(-1, 2)
        noted = [Noted(float(v[0]), int(v[1]), images) for v, images in zip(values, self._images)]
        self._images = []
        backend.kernels_for(self._record).copy.fill(self._record, 0)
        now = time.monotonic()
        a_step = (now - self._since) / steps
        self._due = min(self._capacity, max(1, math.ceil(INTERVAL / max(a_step, 1e-6))))
        self._since = now
        return noted
