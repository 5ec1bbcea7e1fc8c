"""SGD: three steps of the rule, in each of its settings."""

import numpy as np

from sccengine import optim, reference
from sccengine.autograd import Parameter, Tensor
from sccengine.gradcheck import assert_close
from tests.checks import generator

CASES = [
    {"shape": (4, 3), "momentum": 0.0, "weight_decay": 0.0, "nesterov": False, "small": True},
    {"shape": (4, 3), "momentum": 0.0, "weight_decay": 0.1, "nesterov": False, "small": True},
    {"shape": (5,), "momentum": 0.9, "weight_decay": 0.0, "nesterov": False, "small": True},
    {"shape": (5,), "momentum": 0.9, "weight_decay": 0.1, "nesterov": True, "small": True},
    {"shape": (33, 17, 3, 3), "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True},
]


def check(device, case, dtype):
    random = generator(case)
    settings = {name: case[name] for name in ("momentum", "weight_decay", "nesterov")}
    want = random.standard_normal(case["shape"]).astype(dtype)
    parameter = Parameter(want, device=device)
    optimizer = optim.SGD([parameter], lr=0.1, **settings)
    buffer = None
    for lr in (0.1, 0.1, 0.05):
        gradient = random.standard_normal(case["shape"]).astype(dtype)
        parameter.grad = Tensor(gradient, device=device)
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        want, buffer = reference.sgd_update(want, gradient, buffer, lr, **settings)
        assert_close("parameter", parameter.numpy(), want, dtype)
    if case["momentum"]:
        got = optimizer.state_dict()["state"][0]["momentum_buffer"]
        assert isinstance(got, np.ndarray)
        assert_close("momentum buffer", got, buffer, dtype)
