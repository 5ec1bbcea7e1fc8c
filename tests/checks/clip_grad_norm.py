"""Clipping by the norm of all gradients together, below and above the limit."""

import numpy as np

from sccengine import optim, reference
from sccengine.autograd import Parameter, Tensor
from sccengine.gradcheck import assert_close
from tests.checks import generator

CASES = [
    {"shapes": [(4, 3), (5,), (1,)], "max_norm": 0.5, "small": True},
    {"shapes": [(4, 3), (5,)], "max_norm": 1e3, "small": True},
    {"shapes": [(65, 33), (7, 5, 3, 3), (129,)], "max_norm": 1.0},
]


def check(device, case, dtype):
    random = generator(case)
    gradients = [random.standard_normal(shape).astype(dtype) for shape in case["shapes"]]
    parameters = [Parameter(gradient, device=device) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = Tensor(gradient.copy(), device=device)
    norm = optim.clip_grad_norm(parameters, case["max_norm"])
    want, want_norm = reference.clip_grad_norm(gradients, case["max_norm"])
    assert norm.shape == () and norm.dtype == np.float64 and norm.device == parameters[0].device
    assert_close("norm", float(norm), want_norm, dtype)
    for parameter, gradient in zip(parameters, want):
        assert_close("clipped gradient", parameter.grad.numpy(), gradient, dtype)
