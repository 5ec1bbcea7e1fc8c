"""Dropout with a given key: the same bits on every device."""

import sccengine.functional as F
from sccengine import reference
from tests.checks import compare, generator

CASES = [
    {"shape": (3, 4, 5, 2), "p": 0.5, "key": 0, "small": True},
    {"shape": (4, 10), "p": 0.1, "key": 2**64 - 1, "small": True},
    {"shape": (1, 3, 7, 5), "p": 0.9, "key": 0x9E3779B97F4A7C15, "small": True},
    {"shape": (8, 16, 9, 7), "p": 0.3, "key": 12345678901234567890},
]


def check(device, case, dtype):
    p, key = case["p"], case["key"]
    compare(
        device,
        dtype,
        lambda x: F.dropout(x, p, key=key),
        {"x": generator(case).standard_normal(case["shape"])},
        lambda x: reference.dropout_forward(x, p, key),
        lambda dy, x: [reference.dropout_backward(dy, p, key)],
    )
