"""Addition."""

import sccengine.functional as F
from sccengine import reference
from tests.checks import compare, generator

CASES = [
    {"shape": (3, 4, 5, 2), "small": True},
    {"shape": (1, 1), "small": True},
    {"shape": (), "small": True},
    {"shape": (7,), "small": True},
    {"shape": (5, 16, 9, 7)},
]


def check(device, case, dtype):
    random = generator(case)
    compare(
        device,
        dtype,
        F.add,
        {"a": random.standard_normal(case["shape"]), "b": random.standard_normal(case["shape"])},
        reference.add_forward,
        lambda dy, a, b: reference.add_backward(dy),
    )
