"""Gradient clipping by the norm of all gradients together."""

from __future__ import annotations

import numpy as np

from sccengine import backend, numeric
from sccengine.autograd import Tensor
from sccengine.optim.optimizer import gradient_of


def clip_grad_norm(parameters, max_norm):
    """Multiply all gradients, in place, by min(1, max_norm / (norm + 1e-6)); returns the norm before.

    The norm is the root of the sum of squares over all ``parameters`` that have a gradient, added up in float64 in a
    fixed order. It comes as a Tensor of shape () on the gradients' device, which computes it and goes on: only reading
    it, with ``float(norm)``, waits. A norm that is not finite is returned like any other: check it where that matters.
    As in PyTorch, a norm of NaN makes all gradients NaN, an infinite one 0, infinities NaN.
    Raises RuntimeError where gradients are on several devices.
    """
    max_norm = numeric.above_zero("clip_grad_norm", "max_norm", max_norm)
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    for position, parameter in enumerate(parameters):
        if not isinstance(parameter, Tensor):
            raise TypeError(
                f"clip_grad_norm: parameters must be Tensors, got {type(parameter).__name__} at position {position}"
            )
    gradients = [gradient_of(p) for p in parameters if p.grad is not None]
    if not gradients:
        return Tensor(np.zeros((), np.float64))
    devices = sorted({backend.device_of(gradient) for gradient in gradients})
    if len(devices) > 1:
        raise RuntimeError(f"clip_grad_norm: the gradients are on different devices: {', '.join(devices)}")
    norm = backend.empty((1,), like=gradients[0], dtype=np.float64)
    kernels = backend.kernels_for(norm).clip_grad_norm
    kernels.norm(gradients, norm)
    kernels.scale(gradients, norm, max_norm)
    return Tensor(norm.reshape(()))
