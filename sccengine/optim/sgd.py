"""Stochastic gradient descent with momentum, Nesterov's or plain, and weight decay: PyTorch's rule.

g = gradient + weight_decay * parameter
buffer = momentum * buffer + g                  (the first time: g)
parameter -= lr * (g + momentum * buffer  if nesterov else  buffer)
"""

from __future__ import annotations

from functools import partial

import numpy as np

from sccengine import backend, numeric
from sccengine.optim.optimizer import Optimizer


class SGD(Optimizer):
    """SGD(params, lr, momentum=0, weight_decay=0, nesterov=False). ValueError for negative or non-finite settings."""

    state_arrays = ("momentum_buffer",)
    # momentum * -0.0 + g is g, whatever its sign: a first step needs no case of its own.
    initial = -0.0
    built_in = ("nesterov",)

    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0, nesterov=False):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov})

    def check(self, group):
        for name in ("lr", "momentum", "weight_decay"):
            numeric.at_least_zero("SGD", name, group[name])
        if group["nesterov"] and group["momentum"] == 0:
            raise ValueError("SGD: nesterov=True needs a momentum above 0")

    def update(self, parameters, gradients, group_number):
        group = self.param_groups[group_number]
        buffers = [self.state_of(p)["momentum_buffer"] for p in parameters] if group["momentum"] else None
        like = gradients[0]
        rates = backend.host_value(partial(self._rates, group_number, buffers is not None), like, np.float64)
        arrays = [parameter.array for parameter in parameters]
        backend.kernels_for(like).sgd.update(arrays, gradients, buffers, rates, group["nesterov"])

    def _rates(self, group_number, has_buffers):
        group = self.param_groups[group_number]
        if bool(group["momentum"]) != has_buffers:
            raise RuntimeError(
                f"SGD: momentum is {group['momentum']} now, but the step was captured "
                f"{'with' if has_buffers else 'without'} momentum: capture it again"
            )
        return [group["lr"], group["momentum"], group["weight_decay"]]
