"""Max pooling; ``ties``: values rounded, so that the first of equals must win."""

import sccengine.functional as F
from sccengine import reference
from tests.checks import compare, generator

CASES = [
    {"shape": (2, 3, 6, 4), "kernel": 2, "stride": None, "padding": 0, "ties": False, "small": True},
    {"shape": (2, 2, 7, 5), "kernel": 3, "stride": 2, "padding": 1, "ties": True, "small": True},
    {"shape": (3, 2, 5, 6), "kernel": (2, 3), "stride": (1, 2), "padding": (1, 0), "ties": True, "small": True},
    {"shape": (1, 4, 5, 5), "kernel": 2, "stride": 3, "padding": 0, "ties": False, "small": True},
    {"shape": (2, 3, 1, 1), "kernel": 1, "stride": None, "padding": 0, "ties": False, "small": True},
    {"shape": (5, 9, 33, 17), "kernel": 3, "stride": 2, "padding": 1, "ties": False},
    {"shape": (3, 24, 30, 31), "kernel": 2, "stride": None, "padding": 0, "ties": True},
    {"shape": (19, 3, 8, 7), "kernel": 3, "stride": 2, "padding": 1, "ties": True},
    {"shape": (37, 2, 6, 6), "kernel": 2, "stride": None, "padding": 0, "ties": True},
    {"shape": (16, 2, 5, 9), "kernel": (1, 3), "stride": (3, 1), "padding": (0, 1), "ties": False},
]


def check(device, case, dtype):
    windows = case["kernel"], case["stride"], case["padding"]
    x = generator(case).standard_normal(case["shape"])
    compare(
        device,
        dtype,
        lambda x: F.max_pool2d(x, *windows),
        {"x": x.round() if case["ties"] else x},
        lambda x: reference.max_pool2d_forward(x, *windows)[0],
        lambda dy, x: [reference.max_pool2d_backward(dy, x, *windows)],
    )
