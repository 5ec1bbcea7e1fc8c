"""Sliding-channel convolution, in every variant."""

from functools import partial

import numpy as np

import sccengine.functional as F
from sccengine import reference
from sccengine.autograd import Tensor
from sccengine.backend import kernels_for
from tests.checks import compare, generator

CASES = [
    # (N, C, H, W), O, cg, co: windows that wrap, D from 1 to C, O < D, O no multiple of D, one pixel, one image
    {"shape": (2, 4, 2, 3), "filters": 6, "groups": 2, "overlap": 0.5, "bias": True, "small": True},
    {"shape": (1, 6, 1, 1), "filters": 5, "groups": 3, "overlap": 0.33, "bias": True, "small": True},
    {"shape": (3, 5, 1, 2), "filters": 7, "groups": 1, "overlap": 0.29, "bias": False, "small": True},
    {"shape": (2, 8, 3, 1), "filters": 3, "groups": 8, "overlap": 0.9, "bias": True, "small": True},
    {"shape": (1, 1, 2, 2), "filters": 4, "groups": 1, "overlap": 0.75, "bias": True, "small": True},
    {"shape": (2, 10, 3, 3), "filters": 4, "groups": 5, "overlap": 0, "bias": True, "stride": 2, "small": True},
    {"shape": (2, 16, 2, 2), "filters": 9, "groups": 4, "overlap": 0.6, "bias": True, "stride": (1, 2), "small": True},
    {"shape": (3, 9, 2, 2), "filters": 7, "groups": 3, "overlap": 0.5, "bias": True, "relu": True, "small": True},
    {"shape": (1, 6, 1, 3), "filters": 20, "groups": 2, "overlap": 0.2, "bias": False, "relu": True, "small": True},
    {"shape": (2, 12, 33, 17), "filters": 20, "groups": 3, "overlap": 0.1, "bias": True},
    {"shape": (5, 40, 7, 9), "filters": 33, "groups": 8, "overlap": 0.25, "bias": True},
    {"shape": (16, 64, 8, 8), "filters": 70, "groups": 2, "overlap": 0.33, "bias": True},
    {"shape": (3, 16, 13, 11), "filters": 130, "groups": 16, "overlap": 0.5, "bias": False},
    {"shape": (64, 64, 1, 1), "filters": 8, "groups": 4, "overlap": 0.9, "bias": True},
]


def rounding(variant, dtype):
    """The tolerance of a Variant's results: `dtype`'s, or that of what it rounds its operands to."""
    return {"highest": dtype, "high": "tf32", "medium": "bf16"}[variant.precision]


def check(device, case, dtype):
    random = generator(case)
    groups, overlap, stride, channels = case["groups"], case["overlap"], case.get("stride", 1), case["shape"][1]
    relu = case.get("relu", False)
    results = []

    def operator(variant, *arrays):
        results.append(F.scc(*arrays, groups=groups, overlap=overlap, stride=stride, relu=relu, variant=variant))
        return results[-1]

    def forward(x, weight, bias=None):
        y = reference.scc_forward(x, weight, bias, groups, overlap, stride)
        return np.maximum(y, 0) if relu else y

    def backward(dy, x, weight, bias=None):
        # Whether a sum near zero passes is a matter of rounding: the y that was computed decides.
        passes = results[-1].numpy() > 0 if relu else True
        return reference.scc_backward(dy * passes, x, weight, groups, overlap, stride)[: 2 if bias is None else 3]

    inputs = {
        "x": random.standard_normal(case["shape"]),
        "weight": random.standard_normal((case["filters"], channels // groups)),
    }
    if case["bias"]:
        inputs["bias"] = random.standard_normal(case["filters"])
    like = Tensor([0.0], device=device).array
    kernels = kernels_for(like).scc
    for name in ("auto", *kernels.VARIANTS):
        variant = kernels.VARIANTS.get(name, kernels.VARIANTS[kernels.DEFAULT])
        if name != "auto" and (np.dtype(dtype).name not in variant.dtypes or kernels.problem(name, like)):
            continue
        compare(
            device,
            dtype,
            partial(operator, name),
            inputs,
            forward,
            backward,
            tolerance=rounding(variant, dtype),
        )
