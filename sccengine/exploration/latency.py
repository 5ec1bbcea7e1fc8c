"""How long a training step of a network takes, from a table of its layers that is measured once and kept.

Networks of one design space share most of their layers, so a table of layers is small where a list of networks is not.
An entry of it is a step of one layer as it stands in the network: forward, backward to its parameters and, where the
network needs it, its input, and the optimizer's update of its parameters, captured (capture.py) as those of a training
are. The loss is an entry, too. The latency of a network is the sum of its entries' least times, those that nothing else
on the machine disturbed; what a step does beside its layers (reading the batch, adding gradients up where a graph
branches) is left out, and what it does once for all of them (seeing that nothing has changed) counts once a layer.
benchmarks/layer_sums.py shows how far that is from whole steps. A machine that is busy with something else while
entries are measured makes them too large.

Entries are kept as the timings of kernels are (timings.py), in the same cache folder. Their key is made of the layer
with all its settings, its inputs, batch size, dtype and optimizer, the variants of kernels that are chosen for it, the
device and the versions; so another machine, or another version, has entries of its own.
"""

from __future__ import annotations

import functools
import json
import math
import time
import warnings
from typing import NamedTuple

import numpy as np

import sccengine
import sccengine.functional as F
from sccengine import backend, get_matmul_precision, nn, timings, tuning
from sccengine.autograd import Tensor
from sccengine.capture import capture_step
from sccengine.models.mode import device_of_model, evaluation_mode, leaves, watched
from sccengine.tuning_keys import device_key, kernel_versions

# For the timings of one layer, again and again up to so many times, until the AGREEING least ones agree.
SECONDS, ATTEMPTS = 0.15, 8
AGREEING, WITHIN = 3, 0.1
_STEP = "step"  # the one name in an entry's seconds


class TimedLayer(NamedTuple):
    """A layer of a network with what one image gives it: shapes without the batch, and which need a gradient."""

    module: nn.Module
    input_shapes: tuple[tuple[int, ...], ...]
    need_gradient: tuple[bool, ...]
    output_shape: tuple[int, ...]


class Loss(nn.Module):
    """Cross-entropy with the labels (N,) given here, so that it is timed as a layer: logits (N, classes) -> ()."""

    def __init__(self, labels, label_smoothing):
        super().__init__()
        self.labels = labels
        self.label_smoothing = label_smoothing

    def forward(self, logits):
        return F.cross_entropy(logits, self.labels, label_smoothing=self.label_smoothing)

    def extra_repr(self):
        return f"label_smoothing={self.label_smoothing}"


def layers_of(model, image_shape):
    """The TimedLayers of `model` in the order in which one image (C, H, W) of zeros runs through them."""
    found = []

    def see(name, module, inputs, output):
        shapes = tuple(tensor.shape[1:] for tensor in inputs)
        found.append(TimedLayer(module, shapes, tuple(tensor.requires_grad for tensor in inputs), output.shape[1:]))

    with evaluation_mode(model, recording=True), watched(leaves(model), see):
        model(Tensor(np.zeros((1, *image_shape), np.float32), device=device_of_model(model)))
    return found


class LayerTimes:
    """The table: the seconds of a training step of layers, in batches of `batch_size`, on a device.

    optimizer   a function of a Module: an optimizer of its parameters, whose update belongs to a step
    store       a timings.Store; None: the one in the cache folder
    clock       as timings.measure takes it; None: what suits the device

    Raises RuntimeError for the simulator, whose times say nothing.
    """

    def __init__(self, batch_size, optimizer, device="cpu", *, seconds=SECONDS, store=None, clock=None):
        self.batch_size = batch_size
        self.device = backend.resolve_device(device)
        if self.device == "simulator":
            raise RuntimeError("latency cannot be measured on device 'simulator': its times say nothing of a GPU's")
        self._optimizer = optimizer
        self._seconds = seconds
        self._store = store or tuning.store("layers")
        self._clock = clock
        self._known = {}
        self.measured = 0  # entries that were not in the table before

    def of(self, model, image_shape, label_smoothing=0.0):
        """Seconds of a training step of `model`, which is moved to the device, and whose state may change."""
        layers = layers_of(model.to(self.device), image_shape)
        logits = layers[-1].output_shape
        labels = Tensor(np.arange(self.batch_size) % logits[0], device=self.device)
        layers.append(TimedLayer(Loss(labels, label_smoothing), (logits,), (True,), ()))
        return math.fsum(map(self.of_layer, layers))

    def of_layer(self, layer):
        """Seconds of a training step of a TimedLayer: the least in the table, where it is put if it is not there."""
        key = self._key(layer)
        name = json.dumps(key, sort_keys=True)
        if name not in self._known:
            record = self._store.load(key)
            if record is None or _STEP not in record["seconds"]:
                record = self._measure(key, layer)
            self._known[name] = min(record["seconds"][_STEP])
        return self._known[name]

    def _key(self, layer):
        optimizer = None
        if next(layer.module.parameters(), None) is not None:
            optimizer = type(self._optimizer(layer.module)).__name__
        return {
            "layer": repr(layer.module),
            "inputs": [list(shape) for shape in layer.input_shapes],
            "gradients": list(layer.need_gradient),
            "batch": self.batch_size,
            "dtype": "float32",
            "precision": get_matmul_precision(),
            "captured": True,
            "optimizer": optimizer,
            "variants": self._variants(layer),
            "device": device_key(self.device),
            "versions": {"sccengine": sccengine.__version__, **kernel_versions(self.device)},
        }

    def _variants(self, layer):
        """The variants of kernels that a contraction over channel windows would be computed with, now."""
        windows = getattr(layer.module, "windows", None)
        if windows is None:
            return {}
        columns = math.prod(layer.output_shape[1:]) * self.batch_size
        rows = backend.empty((windows.out_channels, columns), like=layer.module.weight.array)
        precision = get_matmul_precision()
        return {launcher: tuning.choose("scc", launcher, windows, rows, precision) for launcher in tuning.LAUNCHERS}

    def _measure(self, key, layer):
        times = []
        with timings.current(self.device):
            clock = self._clock or timings.clock_for(self.device)
            step = self._step(layer)
            for _ in range(ATTEMPTS):
                seconds, failed = timings.measure({_STEP: step}, clock, self._seconds)
                if failed:
                    raise RuntimeError(f"latency: a step of {key['layer']} failed: {failed[_STEP]}")
                times = sorted(times + seconds[_STEP])
                if times[AGREEING - 1] <= (1 + WITHIN) * times[0]:
                    break
        record = {
            "key": key,
            "rule": _STEP,
            "seconds": {_STEP: times},
            "failed": {},
            "operations": max(1, 6 * self.batch_size * _macs(layer)),
            "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        self.measured += 1
        try:
            self._store.save(record)
        except OSError as error:
            warnings.warn(f"timings of layers cannot be written, and will be lost: {error}", stacklevel=4)
        return record

    def _step(self, layer):
        """A captured step of a layer alone, on random numbers."""
        scratch = functools.partial(timings.scratch, self.device, np.dtype(np.float32))
        inputs = [
            Tensor(backend.from_rows(scratch(*shape, self.batch_size)), requires_grad=needed)
            for shape, needed in zip(layer.input_shapes, layer.need_gradient)
        ]
        module = layer.module.train()
        parameters = list(module.parameters())
        optimizer = self._optimizer(module) if parameters else None
        dy = None
        if layer.output_shape:
            dy = Tensor(backend.from_rows(scratch(*layer.output_shape, self.batch_size)))

        def step():
            for tensor in (*inputs, *parameters):
                tensor.grad = None
            y = module(*inputs)
            if y.requires_grad:
                y.backward(dy)
            if optimizer is not None:
                optimizer.step()

        return capture_step(step, device=self.device)


def _macs(layer):
    """Multiply-accumulates of one image, forward."""
    weight = getattr(layer.module, "weight", None)
    return (0 if weight is None else weight.size) * math.prod(layer.output_shape[1:])
