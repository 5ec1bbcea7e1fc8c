"""Gradient clipping by the norm of all gradients together."""

from __future__ import annotations

import math

from sccengine import backend
from sccengine.autograd import Tensor
from sccengine.functional import checks
from sccengine.optim.optimizer import gradient_of


def clip_grad_norm(parameters, max_norm):
    """Multiply all gradients, in place, by min(1, max_norm / (norm + 1e-6)); returns the norm before, a float.

    The norm is the root of the sum of squares over all ``parameters`` that have a gradient, added up in float64 in a
    fixed order. A norm that is not finite is returned like any other: check it where that matters.
    """
    max_norm = checks.above_zero("clip_grad_norm", "max_norm", max_norm)
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    for position, parameter in enumerate(parameters):
        if not isinstance(parameter, Tensor):
            raise TypeError(
                f"clip_grad_norm: parameters must be Tensors, got {type(parameter).__name__} at position {position}"
            )
    gradients = [gradient_of(p).reshape(-1) for p in parameters if p.grad is not None]
    norm = math.sqrt(sum(backend.kernels_for(g).clip_grad_norm.sum_of_squares(g) for g in gradients))
    factor = max_norm / (norm + 1e-6)
    if factor < 1.0:
        for gradient in gradients:
            backend.kernels_for(gradient).clip_grad_norm.scale(gradient, factor)
    return norm
