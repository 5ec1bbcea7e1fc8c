"""Channel shuffle."""

import sccengine.functional as F
from sccengine import reference
from tests.checks import compare, generator

CASES = [
    {"shape": (3, 6, 5, 2), "groups": 2, "small": True},
    {"shape": (2, 12, 1, 1), "groups": 3, "small": True},
    {"shape": (2, 4, 3, 3), "groups": 1, "small": True},
    {"shape": (1, 5), "groups": 5, "small": True},
    {"shape": (5, 48, 9, 7), "groups": 8},
]


def check(device, case, dtype):
    groups = case["groups"]
    compare(
        device,
        dtype,
        lambda x: F.channel_shuffle(x, groups),
        {"x": generator(case).standard_normal(case["shape"])},
        lambda x: reference.channel_shuffle_forward(x, groups),
        lambda dy, x: [reference.channel_shuffle_backward(dy, groups)],
    )
