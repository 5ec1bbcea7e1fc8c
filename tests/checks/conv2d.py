"""Convolution: dense and grouped k x k, and the 1x1 kinds that are contractions over channel windows."""

import sccengine.functional as F
from sccengine import reference
from tests.checks import compare, generator

CASES = [
    {"shape": (2, 3, 4, 3), "filters": 4, "kernel": (3, 3), "padding": 1, "bias": True, "small": True},
    {"shape": (1, 4, 5, 4), "filters": 6, "kernel": (3, 2), "groups": 2, "stride": (2, 1), "bias": True, "small": True},
    {"shape": (2, 2, 1, 1), "filters": 3, "kernel": (3, 3), "padding": 1, "bias": False, "small": True},
    {"shape": (2, 4, 3, 3), "filters": 5, "kernel": (1, 1), "bias": True, "small": True},
    {"shape": (2, 4, 3, 3), "filters": 6, "kernel": (1, 1), "groups": 2, "stride": 2, "bias": True, "small": True},
    {"shape": (2, 2, 2, 3), "filters": 2, "kernel": (1, 1), "padding": 1, "bias": True, "small": True},
    {"shape": (2, 3, 3, 3), "filters": 6, "kernel": (3, 3), "groups": 3, "padding": 1, "bias": True, "small": True},
    {"shape": (1, 2, 6, 5), "filters": 2, "kernel": (3, 3), "stride": 3, "padding": 3, "bias": True, "small": True},
    {"shape": (8, 16, 16, 16), "filters": 24, "kernel": (3, 3), "padding": 1, "bias": True},
    {"shape": (3, 12, 33, 17), "filters": 10, "kernel": (5, 5), "groups": 2, "stride": 2, "padding": 2, "bias": False},
    # More panel rows than are multiplied at a time; rows of y that end within a vector; phases that no tap meets.
    {"shape": (5, 20, 7, 9), "filters": 9, "kernel": (3, 3), "padding": 1, "bias": True},
    {"shape": (1, 3, 19, 23), "filters": 10, "kernel": (7, 7), "stride": 2, "padding": 3, "bias": True},
    {"shape": (17, 4, 9, 8), "filters": 17, "kernel": (1, 3), "stride": (3, 2), "padding": (0, 1), "bias": True},
    {"shape": (70, 2, 3, 5), "filters": 1, "kernel": (2, 2), "padding": 2, "bias": False},
    {"shape": (16, 6, 32, 32), "filters": 9, "kernel": (3, 3), "padding": 1, "bias": True},
]


def check(device, case, dtype):
    random = generator(case)
    groups, stride, padding = case.get("groups", 1), case.get("stride", 1), case.get("padding", 0)
    inputs = {
        "x": random.standard_normal(case["shape"]),
        "weight": random.standard_normal((case["filters"], case["shape"][1] // groups, *case["kernel"])),
    }
    if case["bias"]:
        inputs["bias"] = random.standard_normal(case["filters"])
    compare(
        device,
        dtype,
        lambda x, weight, bias=None: F.conv2d(x, weight, bias, stride=stride, padding=padding, groups=groups),
        inputs,
        lambda x, weight, bias=None: reference.conv2d_forward(x, weight, bias, stride, padding, groups),
        lambda dy, *arrays: reference.conv2d_backward(dy, *arrays[:2], stride, padding, groups)[: len(arrays)],
    )
