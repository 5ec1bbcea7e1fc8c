"""Depthwise convolution, with m filters a channel."""

import sccengine.functional as F
from sccengine import reference
from tests.checks import compare, generator

CASES = [
    {"shape": (2, 3, 5, 4), "m": 1, "kernel": (3, 3), "stride": 1, "padding": 1, "bias": True, "small": True},
    {"shape": (3, 2, 6, 5), "m": 2, "kernel": (3, 3), "stride": 2, "padding": 1, "bias": False, "small": True},
    {"shape": (1, 2, 5, 7), "m": 1, "kernel": (2, 5), "stride": (2, 1), "padding": (0, 2), "bias": True, "small": True},
    {"shape": (4, 3, 1, 1), "m": 1, "kernel": (3, 3), "stride": 1, "padding": 1, "bias": True, "small": True},
    {"shape": (2, 2, 3, 3), "m": 3, "kernel": (1, 1), "stride": 1, "padding": 0, "bias": True, "small": True},
    {"shape": (2, 2, 3, 3), "m": 1, "kernel": (3, 3), "stride": 1, "padding": 4, "bias": True, "small": True},
    {"shape": (5, 16, 33, 17), "m": 1, "kernel": (3, 3), "stride": 1, "padding": 1, "bias": True},
    {"shape": (16, 9, 8, 8), "m": 2, "kernel": (5, 5), "stride": 2, "padding": 2, "bias": False},
    {"shape": (1, 2, 9, 8), "m": 1, "kernel": (3, 3), "stride": 2, "padding": 1, "bias": True},
    {"shape": (19, 3, 6, 7), "m": 1, "kernel": (3, 3), "stride": 1, "padding": 1, "bias": True},
    {"shape": (32, 2, 7, 6), "m": 2, "kernel": (3, 3), "stride": 2, "padding": 1, "bias": True},
    {"shape": (35, 2, 5, 8), "m": 1, "kernel": (2, 3), "stride": (1, 4), "padding": (1, 0), "bias": True},
    {"shape": (17, 2, 6, 5), "m": 3, "kernel": (4, 1), "stride": (3, 1), "padding": (0, 0), "bias": False},
]


def check(device, case, dtype):
    random = generator(case)
    stride, padding, channels = case["stride"], case["padding"], case["shape"][1]
    filters = channels * case["m"]
    inputs = {
        "x": random.standard_normal(case["shape"]),
        "weight": random.standard_normal((filters, 1, *case["kernel"])),
    }
    if case["bias"]:
        inputs["bias"] = random.standard_normal(filters)
    compare(
        device,
        dtype,
        lambda x, weight, bias=None: F.depthwise_conv2d(x, weight, bias, stride=stride, padding=padding),
        inputs,
        lambda x, weight, bias=None: reference.conv2d_forward(x, weight, bias, stride, padding, channels),
        lambda dy, *arrays: reference.conv2d_backward(dy, *arrays[:2], stride, padding, channels)[: len(arrays)],
    )
