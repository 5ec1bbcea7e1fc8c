"""The depthwise separable block of evaluation: batch norms folded or absent, ReLUs, windows of every kind."""

import numpy as np

import sccengine.functional as F
from sccengine import backend, reference
from sccengine.autograd import Parameter, Tensor
from sccengine.functional.separable import Stage
from sccengine.gradcheck import assert_close
from sccengine.windows import ChannelWindows
from tests.checks import assert_batch_last, generator

# (N, C, H, W), O, cg, co (None: grouped windows), what follows each stage: "n" a batch norm, "b" one without weight and
# bias, "r" a ReLU
CASES = [
    {"shape": (4, 6, 3, 5), "filters": 8, "groups": 2, "overlap": 0.5, "follows": ("nr", "nr"), "small": True},
    {
        "shape": (3, 4, 4, 3),
        "filters": 5,
        "groups": 2,
        "overlap": 0.33,
        "follows": ("n", "r"),
        "stride": 2,
        "small": True,
    },
    {"shape": (2, 6, 2, 2), "filters": 8, "groups": 2, "overlap": 0.5, "follows": ("nr", "nr"), "small": True},
    {"shape": (1, 5, 1, 1), "filters": 3, "groups": 1, "overlap": None, "follows": ("", ""), "small": True},
    {
        "shape": (2, 4, 2, 6),
        "filters": 6,
        "groups": 2,
        "overlap": None,
        "follows": ("b", "br"),
        "bias": False,
        "small": True,
    },
    {
        "shape": (8, 9, 4, 2),
        "filters": 4,
        "groups": 3,
        "overlap": 0.7,
        "follows": ("r", "n"),
        "kernel": (5, 5),
        "padding": 2,
        "small": True,
    },
    {
        "shape": (4, 3, 5, 4),
        "filters": 7,
        "groups": 1,
        "overlap": None,
        "follows": ("nr", "nr"),
        "kernel": (2, 3),
        "stride": (1, 2),
        "padding": (0, 3),
        "small": True,
    },
    {"shape": (16, 24, 9, 7), "filters": 40, "groups": 4, "overlap": 0.25, "follows": ("nr", "nr")},
    {"shape": (64, 64, 8, 8), "filters": 130, "groups": 2, "overlap": 0.5, "follows": ("nr", "nr"), "stride": 2},
    {"shape": (20, 33, 13, 5), "filters": 17, "groups": 11, "overlap": 0.9, "follows": ("n", "n"), "padding": 0},
    {"shape": (1, 128, 12, 12), "filters": 64, "groups": 8, "overlap": 0.5, "follows": ("r", "nr")},
    {
        "shape": (48, 40, 11, 11),
        "filters": 70,
        "groups": 5,
        "overlap": None,
        "follows": ("nr", ""),
        "kernel": (5, 5),
        "stride": 2,
        "padding": 2,
    },
]
EPS = (1e-5, 1e-3)


def problem(case, dtype):
    """x, the two Stages with NumPy arrays, and the windows of a case."""
    random = generator(case)
    channels, filters, groups, overlap = case["shape"][1], case["filters"], case["groups"], case["overlap"]
    if overlap is None:
        windows = ChannelWindows.grouped(channels, filters, groups)
    else:
        windows = ChannelWindows.sliding(channels, filters, groups, overlap)
    weights = (channels, 1, *case.get("kernel", (3, 3))), (filters, channels // groups)
    stages = []
    for shape, follows, eps in zip(weights, case["follows"], EPS):
        row = shape[:1]
        bias = random.standard_normal(row) if case.get("bias", True) else None
        norm = (None,) * 4
        if "n" in follows or "b" in follows:
            affine = [random.standard_normal(row), random.standard_normal(row)] if "n" in follows else [None, None]
            norm = (*affine, random.standard_normal(row), random.uniform(0.1, 2, row))
        arrays = (random.standard_normal(shape), bias, *norm)
        arrays = (None if array is None else array.astype(dtype) for array in arrays)
        stages.append(Stage(*arrays, eps=eps, relu="r" in follows))
    return random.standard_normal(case["shape"]).astype(dtype), *stages, windows


def expected(case, x, depthwise, mixing):
    """y by the oracles of the single operators."""
    stride, padding = case.get("stride", 1), case.get("padding", 1)
    z = reference.conv2d_forward(x, depthwise.weight, depthwise.bias, stride, padding, x.shape[1])
    z = _followed(z, depthwise)
    if case["overlap"] is None:
        y = reference.conv2d_forward(z, mixing.weight[:, :, None, None], mixing.bias, groups=case["groups"])
    else:
        y = reference.scc_forward(z, mixing.weight, mixing.bias, case["groups"], case["overlap"])
    return _followed(y, mixing)


def _followed(y, stage):
    if stage.mean is not None:
        weight = np.ones(y.shape[1]) if stage.gamma is None else stage.gamma
        bias = np.zeros(y.shape[1]) if stage.beta is None else stage.beta
        y = reference.batch_norm_inference_forward(y, weight, bias, stage.mean, stage.var, stage.eps)
    return reference.relu_forward(y) if stage.relu else y


def on_device(stage, device):
    """The stage with Parameters that are not trained, and statistics on the device."""
    parameters = [None if a is None else Parameter(a, requires_grad=False, device=device) for a in stage[:4]]
    statistics = [None if a is None else Tensor(a, device=device).array for a in stage[4:6]]
    return Stage(*parameters, *statistics, *stage[6:])


def check(device, case, dtype):
    x, depthwise, mixing, windows = problem(case, dtype)
    y = F.separable(
        Tensor(x, device=device),
        on_device(depthwise, device),
        on_device(mixing, device),
        windows=windows,
        stride=case.get("stride", 1),
        padding=case.get("padding", 1),
    )
    assert y.dtype == dtype and y.device == backend.resolve_device(device)
    assert_batch_last("y", y)
    assert_close("y", y.numpy(), expected(case, x, depthwise, mixing), np.dtype(dtype))
