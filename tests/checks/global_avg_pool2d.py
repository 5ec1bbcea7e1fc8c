"""Global average pooling."""

import sccengine.functional as F
from sccengine import reference
from tests.checks import compare, generator

CASES = [
    {"shape": (3, 4, 5, 2), "small": True},
    {"shape": (2, 3, 1, 1), "small": True},
    {"shape": (1, 5, 3, 4), "small": True},
    {"shape": (6, 37, 9, 7)},
]


def check(device, case, dtype):
    compare(
        device,
        dtype,
        F.global_avg_pool2d,
        {"x": generator(case).standard_normal(case["shape"])},
        reference.global_avg_pool2d_forward,
        lambda dy, x: [reference.global_avg_pool2d_backward(dy, x.shape)],
    )
