"""The fully connected layer."""

import sccengine.functional as F
from sccengine import reference
from tests.checks import compare, generator

CASES = [
    {"batch": 3, "inputs": 5, "outputs": 4, "bias": True, "small": True},
    {"batch": 1, "inputs": 1, "outputs": 3, "bias": True, "small": True},
    {"batch": 2, "inputs": 9, "outputs": 1, "bias": False, "small": True},
    {"batch": 65, "inputs": 130, "outputs": 10, "bias": True},
    {"batch": 200, "inputs": 33, "outputs": 47, "bias": False},
]


def check(device, case, dtype):
    random = generator(case)
    inputs = {
        "x": random.standard_normal((case["batch"], case["inputs"])),
        "weight": random.standard_normal((case["outputs"], case["inputs"])),
    }
    if case["bias"]:
        inputs["bias"] = random.standard_normal(case["outputs"])
    compare(
        device,
        dtype,
        F.linear,
        inputs,
        lambda x, weight, bias=None: reference.linear_forward(x, weight, bias),
        lambda dy, *arrays: reference.linear_backward(dy, *arrays[:2])[: len(arrays)],
    )
