"""AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019), PyTorch's rule and defaults.

parameter *= 1 - lr * weight_decay
m = beta1 * m + (1 - beta1) * g;    v = beta2 * v + (1 - beta2) * g^2
parameter -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from sccengine import backend, numeric
from sccengine.optim.optimizer import Optimizer


class AdamW(Optimizer):
    """AdamW(params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)."""

    state_arrays = ("exp_avg", "exp_avg_sq")
    state_numbers = ("step",)

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def check(self, group):
        for name in ("lr", "eps", "weight_decay"):
            numeric.at_least_zero("AdamW", name, group[name])
        betas = group["betas"]
        are_two = isinstance(betas, (tuple, list)) and len(betas) == 2
        if not are_two or not all(numeric.is_real(beta) and 0 <= beta < 1 for beta in betas):
            raise ValueError(f"AdamW: betas must be two numbers of at least 0 and below 1, got {betas}")

    def update(self, parameters, gradients, group_number):
        # One launch, unless some parameters had no gradient in earlier steps and so are behind.
        by_step = {}
        for parameter, gradient in zip(parameters, gradients):
            entries = self.state_of(parameter)
            tensors = parameter.array, gradient, entries["exp_avg"], entries["exp_avg_sq"]
            by_step.setdefault(entries["step"], []).append((parameter, tensors))
        like = gradients[0]
        for pairs in by_step.values():
            together, tensors = zip(*pairs)
            rates = backend.host_value(partial(self._next_rates, together, group_number), like, np.float64)
            backend.kernels_for(like).adamw.update(*zip(*tensors), rates)

    def _next_rates(self, parameters, group_number):
        """Counts the step of these parameters, and gives its rates as kernels/*/adamw.py lists them."""
        states = [self.state[parameter] for parameter in parameters]
        steps = {entries["step"] for entries in states}
        if len(steps) > 1:
            raise RuntimeError(
                f"AdamW: parameters that had the same step number when their step was captured have {sorted(steps)} "
                "now: capture it again after loading such a state"
            )
        step = steps.pop() + 1
        for entries in states:
            entries["step"] = step
        group = self.param_groups[group_number]
        lr, (beta1, beta2) = group["lr"], group["betas"]
        shrink, step_size = 1.0 - lr * group["weight_decay"], lr / (1.0 - beta1**step)
        return [beta1, 1.0 - beta1, beta2, 1.0 - beta2, shrink, step_size, math.sqrt(1.0 - beta2**step), group["eps"]]
