"""Batch normalisation, in training and with running statistics, with and without fused residual and ReLU."""

import numpy as np

import sccengine.functional as F
from sccengine import reference
from sccengine.autograd import Tensor
from sccengine.gradcheck import assert_close
from tests.checks import compare, generator

SHAPES = [
    ((3, 4, 5, 2), True),
    ((4, 2, 5, 2), True),
    ((2, 3, 1, 1), True),
    ((5, 3), True),
    ((1, 2, 3, 3), True),
    ((7, 19, 33, 5), False),
    ((7, 3, 50, 49), False),
]
CASES = [
    {"shape": shape, "training": training, "relu": relu, "residual": residual, "small": small}
    for shape, small in SHAPES
    for training in (True, False)
    for relu, residual in ((False, False), (True, False), (False, True), (True, True))
]
MOMENTUM, EPS = 0.3, 1e-3


def check(device, case, dtype):
    random = generator(case)
    training, relu = case["training"], case["relu"]
    channels = case["shape"][1]
    inputs = {
        "x": 3 + 2 * random.standard_normal(case["shape"]),
        "weight": random.standard_normal(channels),
        "bias": random.standard_normal(channels),
    }
    if case["residual"]:
        inputs["residual"] = random.standard_normal(case["shape"])
    mean, var = random.standard_normal(channels).astype(dtype), random.uniform(0.5, 2, channels).astype(dtype)
    running_mean, running_var = Tensor(mean.copy(), device=device).data, Tensor(var.copy(), device=device).data

    def operator(x, weight, bias, residual=None):
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, MOMENTUM, EPS, relu, residual)

    def before_relu(x, weight, bias, residual=0.0):
        if training:
            return reference.batch_norm_training_forward(x, weight, bias, EPS)[0] + residual
        return reference.batch_norm_inference_forward(x, weight, bias, mean, var, EPS) + residual

    def forward(*arrays):
        y = before_relu(*arrays)
        return reference.relu_forward(y) if relu else y

    def backward(dy, x, weight, *others):
        dy = reference.relu_backward(dy, before_relu(x, weight, *others)) if relu else dy
        if training:
            gradients = reference.batch_norm_training_backward(dy, x, weight, EPS)
        else:
            gradients = reference.batch_norm_inference_backward(dy, x, weight, mean, var, EPS)
        return [*gradients, dy] if case["residual"] else gradients

    compare(device, dtype, operator, inputs, forward, backward)

    x = inputs["x"].astype(dtype).astype(np.float64)
    if training:
        axes = (0, *range(2, x.ndim))
        mean = (1 - MOMENTUM) * mean + MOMENTUM * x.mean(axes)
        var = (1 - MOMENTUM) * var + MOMENTUM * x.var(axes, ddof=1)
    assert_close("running_mean", Tensor(running_mean).numpy(), mean, dtype)
    assert_close("running_var", Tensor(running_var).numpy(), var, dtype)
