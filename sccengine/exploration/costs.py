"""What a design costs, known before it is trained: exact counts, and measurements of a training step.

    params, macs   counted (models.summarize)
    latency        seconds of a training step of one batch: the sum over its layers, each measured once (latency.py),
                   to two significant digits, so that noise does not tell designs apart
    memory         bytes of all arrays that a training step of one batch has at once (step_costs.array_bytes), found by
                   taking two steps

Only what is asked for is measured, and a design once. The engine's random numbers are left as they were.
"""

from __future__ import annotations

import numpy as np

from sccengine import backend, models, timings
from sccengine.exploration.latency import LayerTimes
from sccengine.exploration.objectives import check_objectives, costs_among
from sccengine.training.job import build_model, build_optimizer, choose_rates, describe_data, describe_model
from sccengine.training.step_costs import array_bytes


class Costs:
    """``costs(design)`` -> {objective: number}, for the costs among `objectives`.

    options     those of ``sccengine train`` that all designs share, by name (job.build_trainer); the design's own,
                and the seed, are not looked at
    train_set   the data set that they are trained on
    device      on which latency and memory are measured
    layers      a LayerTimes instead of the one in the cache folder

    Raises RuntimeError for latency or memory on the simulator; the call raises ValueError or TypeError for a design
    that is no network, or is too large for the images.
    """

    def __init__(self, objectives, options, train_set, device="cpu", layers=None):
        self.names = costs_among(check_objectives(objectives))
        self.device = backend.resolve_device(device)
        self._options = dict(options)
        choose_rates(self._options)
        self._described = describe_data(options["dataset"], train_set)
        self._image_shape = tuple(train_set.image_shape)
        self._batch_size = min(options["batch_size"], len(train_set))
        self._layers = layers
        if "latency" in self.names and layers is None:
            self._layers = LayerTimes(self._batch_size, self._optimizer, self.device)
        if "memory" in self.names and self.device == "simulator":
            raise RuntimeError("memory cannot be measured on device 'simulator', whose arrays are not a GPU's")
        self._known = {}

    def __call__(self, design):
        if design not in self._known:
            random = backend.random_state()
            try:
                self._known[design] = self._measure(design)
            finally:
                backend.set_random_state(random)
        return dict(self._known[design])

    def _measure(self, design):
        config = self._config(design)
        model = build_model(config)
        summary = models.summarize(model, self._image_shape)
        found = {"params": summary.params, "macs": summary.macs}
        if "latency" in self.names:
            seconds = self._layers.of(model, self._image_shape, self._options["label_smoothing"])
            found["latency"] = float(f"{seconds:.1e}")
        if "memory" in self.names:
            found["memory"] = array_bytes(config, self.device, self._batch())
        return {name: found[name] for name in self.names}

    def _config(self, design):
        options = {**self._options, "model": design.model, **design.settings}
        return {"options": options, "data": self._described, "model": describe_model(options, self._described)}

    def _optimizer(self, module):
        return build_optimizer({"options": self._options}, module)

    def _batch(self):
        """Images and labels as a loader gives them, lying batch-last."""
        images = timings.scratch(self.device, np.dtype(np.float32), *self._image_shape, self._batch_size)
        return backend.from_rows(images), np.arange(self._batch_size) % len(self._described["class_names"])
