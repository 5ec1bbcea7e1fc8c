"""AdamW: three steps of the rule."""

import numpy as np

from sccengine import optim, reference
from sccengine.autograd import Parameter, Tensor
from sccengine.gradcheck import assert_close
from tests.checks import generator

CASES = [
    {"shape": (4, 3), "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "small": True},
    {"shape": (5,), "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1, "small": True},
    {"shape": (33, 17, 3, 3), "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.01},
]


def check(device, case, dtype):
    random = generator(case)
    (beta1, beta2), eps, weight_decay = case["betas"], case["eps"], case["weight_decay"]
    want = random.standard_normal(case["shape"]).astype(dtype)
    parameter = Parameter(want, device=device)
    optimizer = optim.AdamW([parameter], lr=0.1, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay)
    first, second = np.zeros(case["shape"]), np.zeros(case["shape"])
    for step, lr in ((1, 0.1), (2, 0.1), (3, 0.05)):
        gradient = random.standard_normal(case["shape"]).astype(dtype)
        parameter.grad = Tensor(gradient, device=device)
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        want, first, second = reference.adamw_update(
            want, gradient, first, second, step, lr, beta1, beta2, eps, weight_decay
        )
        assert_close("parameter", parameter.numpy(), want, dtype)
    state = optimizer.state_dict()["state"][0]
    assert state["step"] == 3
    assert_close("first moment", state["exp_avg"], first, dtype)
    assert_close("second moment", state["exp_avg_sq"], second, dtype)
