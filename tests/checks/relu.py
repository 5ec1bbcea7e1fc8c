"""ReLU and ReLU6."""

import math

import sccengine.functional as F
from sccengine import reference
from tests.checks import compare, generator

CASES = [
    {"shape": (3, 4, 5, 2), "ceiling": math.inf, "small": True},
    {"shape": (3, 4, 5, 2), "ceiling": 6.0, "small": True},
    {"shape": (1, 1), "ceiling": 6.0, "small": True},
    {"shape": (7, 33, 9, 17), "ceiling": 6.0},
]


def check(device, case, dtype):
    ceiling = case["ceiling"]
    compare(
        device,
        dtype,
        F.relu if math.isinf(ceiling) else F.relu6,
        {"x": 5 * generator(case).standard_normal(case["shape"])},
        lambda x: reference.relu_forward(x, ceiling),
        lambda dy, x: [reference.relu_backward(dy, x, ceiling)],
    )
