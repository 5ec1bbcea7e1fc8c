"""Stochastic gradient descent with momentum, Nesterov's or plain, and weight decay: PyTorch's rule.

g = gradient + weight_decay * parameter
buffer = momentum * buffer + g                  (the first time: g)
parameter -= lr * (g + momentum * buffer  if nesterov else  buffer)
"""

from __future__ import annotations

from sccengine import backend
from sccengine.functional import checks
from sccengine.optim.optimizer import Optimizer, like_parameter


class SGD(Optimizer):
    """SGD(params, lr, momentum=0, weight_decay=0, nesterov=False). ValueError for negative or non-finite settings."""

    state_arrays = ("momentum_buffer",)

    def __init__(self, params, lr, momentum=0.0, weight_decay=0.0, nesterov=False):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov})

    def check(self, group):
        for name in ("lr", "momentum", "weight_decay"):
            checks.at_least_zero("SGD", name, group[name])
        if group["nesterov"] and group["momentum"] == 0:
            raise ValueError("SGD: nesterov=True needs a momentum above 0")

    def update(self, parameter, gradient, group):
        momentum = group["momentum"]
        buffer, first = None, False
        if momentum:
            state = self.state.get(parameter)
            if first := state is None:
                state = self.state[parameter] = {"momentum_buffer": backend.empty(gradient.shape, like=gradient)}
            buffer = state["momentum_buffer"] = like_parameter(state["momentum_buffer"], parameter)
            buffer = buffer.reshape(-1)
        array = parameter.array
        backend.kernels_for(array).sgd.update(
            array.reshape(-1),
            gradient.reshape(-1),
            buffer,
            group["lr"],
            momentum,
            group["weight_decay"],
            group["nesterov"],
            first,
        )
