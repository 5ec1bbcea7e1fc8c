"""Average pooling."""

import sccengine.functional as F
from sccengine import reference
from tests.checks import compare, generator

CASES = [
    {"shape": (2, 3, 6, 4), "kernel": 2, "stride": None, "padding": 0, "small": True},
    {"shape": (2, 2, 7, 5), "kernel": 3, "stride": 2, "padding": 1, "small": True},
    {"shape": (3, 2, 5, 6), "kernel": (2, 3), "stride": (1, 2), "padding": (1, 0), "small": True},
    {"shape": (1, 4, 5, 5), "kernel": 2, "stride": 3, "padding": 0, "small": True},
    {"shape": (2, 3, 1, 1), "kernel": 1, "stride": None, "padding": 0, "small": True},
    {"shape": (5, 9, 33, 17), "kernel": 3, "stride": 2, "padding": 1},
]


def check(device, case, dtype):
    windows = case["kernel"], case["stride"], case["padding"]
    compare(
        device,
        dtype,
        lambda x: F.avg_pool2d(x, *windows),
        {"x": generator(case).standard_normal(case["shape"])},
        lambda x: reference.avg_pool2d_forward(x, *windows),
        lambda dy, x: [reference.avg_pool2d_backward(dy, x.shape, *windows)],
    )
