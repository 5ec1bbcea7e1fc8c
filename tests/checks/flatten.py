"""Flatten."""

import sccengine.functional as F
from sccengine import reference
from tests.checks import compare, generator

CASES = [
    {"shape": (3, 4, 5, 2), "small": True},
    {"shape": (2, 7, 1, 1), "small": True},
    {"shape": (1, 3, 4, 4), "small": True},
]


def check(device, case, dtype):
    compare(
        device,
        dtype,
        F.flatten,
        {"x": generator(case).standard_normal(case["shape"])},
        reference.flatten_forward,
        lambda dy, x: [reference.flatten_backward(dy, x.shape)],
    )
