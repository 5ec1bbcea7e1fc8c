"""AdamW: steps of the rule, on many tensors, of which some have no gradient at times and so count fewer steps."""

import numpy as np

from sccengine import optim, reference
from sccengine.autograd import Parameter, Tensor
from sccengine.gradcheck import assert_close
from tests.checks import generator

CASES = [
    {"shapes": [(4, 3)], "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "small": True},
    {"shapes": [(5,), (1,), (2, 67)], "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1, "small": True},
    {"shapes": [(33, 17, 3, 3), (33,), (1,)], "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.01},
]
STEPS = [(0.1, 0), (0.1, 1), (0.05, 0)]  # rate, first parameter that has a gradient


def check(device, case, dtype):
    random = generator(case)
    (beta1, beta2), eps, weight_decay = case["betas"], case["eps"], case["weight_decay"]
    want = [random.standard_normal(shape).astype(dtype) for shape in case["shapes"]]
    parameters = [Parameter(array, device=device) for array in want]
    optimizer = optim.AdamW(parameters, lr=0.1, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay)
    moments = [(np.zeros(shape), np.zeros(shape)) for shape in case["shapes"]]
    steps = [0] * len(want)
    for lr, first in STEPS:
        optimizer.zero_grad()
        optimizer.param_groups[0]["lr"] = lr
        for i in range(first, len(want)):
            gradient = random.standard_normal(case["shapes"][i]).astype(dtype)
            parameters[i].grad = Tensor(gradient, device=device)
            steps[i] += 1
            want[i], *moments[i] = reference.adamw_update(
                want[i], gradient, *moments[i], steps[i], lr, beta1, beta2, eps, weight_decay
            )
        optimizer.step()
        for i, parameter in enumerate(parameters):
            assert_close(f"parameter {i}", parameter.numpy(), want[i], dtype)
    for i, entries in optimizer.state_dict()["state"].items():
        assert entries["step"] == steps[i]
        assert_close(f"first moment {i}", entries["exp_avg"], moments[i][0], dtype)
        assert_close(f"second moment {i}", entries["exp_avg_sq"], moments[i][1], dtype)
