"""Stepper: forward, backward and update of one batch, launch by launch or captured as one graph of launches."""

from __future__ import annotations

import warnings

import sccengine.functional as F
from sccengine import backend
from sccengine.autograd import Tensor
from sccengine.capture import capture_step
from sccengine.capture_guard import StepChanged
from sccengine.models.mode import device_of_model
from sccengine.training.tally import Tally


class Stepper:
    """Steps of `model` with `optimizer`; what they come to is noted in `tally`.

    capture   True, False, or "auto": on CUDA, and on the CPU where model and optimizer are made of the engine's own
              classes, without hooks, so that a replay leaves out no side effect of user code. Batches of the first
              one's shape share one captured step, others (the last of an epoch may be smaller) are computed launch by
              launch. The bits are the same. Under "auto", a model that cannot be captured is trained without, and a
              warning says why; one that changes is captured anew.
    inspect   on the CPU: None, or a function of (loss, images, labels) called before backward
    """

    def __init__(self, model, optimizer, label_smoothing, capture, inspect=None):
        self.model = model
        self.device = device_of_model(model)
        self.tally = Tally(next(model.parameters()).array)
        self._optimizer = optimizer
        # Nobody else forgets their gradients, which no step may add to.
        updated = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        self._kept = [parameter for parameter in model.parameters() if id(parameter) not in updated]
        self._label_smoothing = label_smoothing
        self._automatic = capture == "auto"
        self._capture = self._pays() if self._automatic else capture
        self._inspect = inspect
        self._captured = None
        self._shape = None

    def __call__(self, images, labels):
        if self._capture:
            self._step_captured(images, labels)
        else:
            self._step(images, labels)
        self.tally.count(len(labels))

    def forward(self, images, labels):
        """(logits, loss) of a batch, as in training."""
        logits = self.model(Tensor(images, device=self.device))
        return logits, F.cross_entropy(logits, labels, label_smoothing=self._label_smoothing)

    def _pays(self):
        """Whether steps are captured unasked."""
        if self.device.startswith("cuda"):
            return True
        parts = [module for _, module in self.model.named_modules()]
        hooked = any(module._forward_hooks for module in parts)
        return self.device == "cpu" and not hooked and all(_is_engines_own(part) for part in [*parts, self._optimizer])

    def release(self):
        """Give up the captured step and the memory that belongs to it."""
        self._captured = None

    def _step(self, images, labels):
        labels = Tensor(labels, device=self.device)
        self._optimizer.zero_grad()
        for parameter in self._kept:
            parameter.grad = None
        logits, loss = self.forward(images, labels)
        if self._inspect is not None:
            backend.between_launches(lambda: self._inspect(loss, images, labels))
        loss.backward()
        self._optimizer.step()
        self.tally.note(logits, labels, loss)

    def _step_captured(self, images, labels):
        if self._captured is None:
            self._captured = capture_step(self._step, images, labels, device=self.device)
            self._shape = images.shape
        if images.shape != self._shape:
            return self._step(images, labels)
        try:
            self._captured(images, labels)
        except StepChanged:
            if not self._automatic:
                raise
            self._captured = None
            self._step_captured(images, labels)
        except RuntimeError as error:
            if not self._automatic or self._captured.captured or not self._captured.warm:
                raise
            warnings.warn(f"training goes on without a captured step, launch by launch: {error}", stacklevel=2)
            self._capture = False
            self._step(images, labels)


def _is_engines_own(thing):
    """Whether an object has no methods but those of a class of the engine."""
    return type(thing).__module__.startswith("sccengine.") and not any(map(callable, vars(thing).values()))
