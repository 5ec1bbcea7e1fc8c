"""Multiplication by a number."""

import sccengine.functional as F
from sccengine import reference
from tests.checks import compare, generator

CASES = [
    {"shape": (3, 4, 5, 2), "factor": -0.3, "small": True},
    {"shape": (), "factor": 0.1, "small": True},
    {"shape": (7,), "factor": 0, "small": True},
    {"shape": (5, 16, 9, 7), "factor": 3.7},
]


def check(device, case, dtype):
    factor = case["factor"]
    compare(
        device,
        dtype,
        lambda x: F.scale(x, factor),
        {"x": generator(case).standard_normal(case["shape"])},
        lambda x: reference.scale_forward(x, factor),
        lambda dy, x: [reference.scale_backward(dy, factor)],
    )
