"""SGD: steps of the rule in each of its settings, on many tensors in two groups, some without a gradient at times."""

import numpy as np

from sccengine import optim, reference
from sccengine.autograd import Parameter, Tensor
from sccengine.gradcheck import assert_close
from tests.checks import generator

CASES = [
    {"shapes": [(4, 3)], "momentum": 0.0, "weight_decay": 0.0, "nesterov": False, "small": True},
    {"shapes": [(4, 3), (1,)], "momentum": 0.0, "weight_decay": 0.1, "nesterov": False, "small": True},
    {"shapes": [(5,)], "momentum": 0.9, "weight_decay": 0.0, "nesterov": False, "small": True},
    {"shapes": [(5,), (1, 1), (2, 67)], "momentum": 0.9, "weight_decay": 0.1, "nesterov": True, "small": True},
    {"shapes": [(33, 17, 3, 3), (33,), (64, 128), (1,)], "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True},
]
STEPS = [(0.1, 0), (0.1, 1), (0.05, 0)]  # rate, first parameter that has a gradient


def check(device, case, dtype):
    random = generator(case)
    settings = {name: case[name] for name in ("momentum", "nesterov")}
    want = [random.standard_normal(shape).astype(dtype) for shape in case["shapes"]]
    parameters = [Parameter(array, device=device) for array in want]
    # Group 0 has the first parameter and the weight decay, group 1 the others, if any.
    decays = [case["weight_decay"], 0.0]
    groups = [{"params": part, "weight_decay": d} for part, d in zip((parameters[:1], parameters[1:]), decays) if part]
    optimizer = optim.SGD(groups, lr=0.1, **settings)
    buffers = [None] * len(want)
    for lr, first in STEPS:
        optimizer.zero_grad()
        for group in optimizer.param_groups:
            group["lr"] = lr
        for i in range(first, len(want)):
            gradient = random.standard_normal(case["shapes"][i]).astype(dtype)
            parameters[i].grad = Tensor(gradient, device=device)
            decay = decays[i > 0]
            want[i], buffers[i] = reference.sgd_update(
                want[i], gradient, buffers[i], lr, weight_decay=decay, **settings
            )
        optimizer.step()
        for i, parameter in enumerate(parameters):
            assert_close(f"parameter {i}", parameter.numpy(), want[i], dtype)
    state = optimizer.state_dict()["state"]
    assert len(state) == (len(want) if case["momentum"] else 0)
    for i, entries in state.items():
        assert isinstance(entries["momentum_buffer"], np.ndarray)
        assert_close(f"momentum buffer {i}", entries["momentum_buffer"], buffers[i], dtype)
