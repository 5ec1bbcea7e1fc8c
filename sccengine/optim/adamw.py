"""AdamW: Adam with decoupled weight decay (Loshchilov & Hutter 2019), PyTorch's rule and defaults.

parameter *= 1 - lr * weight_decay
m = beta1 * m + (1 - beta1) * g;    v = beta2 * v + (1 - beta2) * g^2
parameter -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
"""

from __future__ import annotations

from sccengine import backend
from sccengine.functional import checks
from sccengine.optim.optimizer import Optimizer, like_parameter


class AdamW(Optimizer):
    """AdamW(params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)."""

    state_arrays = ("exp_avg", "exp_avg_sq")
    state_numbers = ("step",)

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def check(self, group):
        for name in ("lr", "eps", "weight_decay"):
            checks.at_least_zero("AdamW", name, group[name])
        betas = group["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"AdamW: betas must be two numbers of at least 0 and below 1, got {betas}")

    def update(self, parameter, gradient, group):
        state = self.state.get(parameter)
        if state is None:
            moments = {name: backend.zeros(gradient.shape, like=gradient) for name in ("exp_avg", "exp_avg_sq")}
            state = self.state[parameter] = {"step": 0, **moments}
        state["step"] += 1
        for name in ("exp_avg", "exp_avg_sq"):
            state[name] = like_parameter(state[name], parameter)
        array = parameter.array
        backend.kernels_for(array).adamw.update(
            array.reshape(-1),
            gradient.reshape(-1),
            state["exp_avg"].reshape(-1),
            state["exp_avg_sq"].reshape(-1),
            group["lr"],
            *group["betas"],
            group["eps"],
            group["weight_decay"],
            state["step"],
        )
