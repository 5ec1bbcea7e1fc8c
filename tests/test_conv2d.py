"""Convolution: dense, grouped, 1x1 and depthwise through one door; gradients, memory orders, bad inputs."""

import numpy as np
import pytest

import sccengine.functional as F
from sccengine.gradcheck import check_gradients
from tests.checks import conv2d as checks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", checks.CASES, ids=str)
def test_matches_reference(case, dtype):
    checks.check("cpu", case, dtype)


def _inputs(groups=1, kernel=(3, 2), filters=6):
    random = np.random.default_rng(0)
    return [random.standard_normal(s) for s in ((2, 4, 5, 4), (filters, 4 // groups, *kernel), (filters,))]


@pytest.mark.parametrize(
    "groups, kernel, stride, padding", [(1, (3, 3), 1, 1), (2, (3, 2), 2, (0, 1)), (2, (1, 1), 2, 0)]
)
def test_gradcheck(groups, kernel, stride, padding):
    check_gradients(
        lambda x, weight, bias: F.conv2d(x, weight, bias, stride=stride, padding=padding, groups=groups),
        _inputs(groups, kernel),
    )


@pytest.mark.parametrize("channels, groups, kernel", [(4, 1, (1, 1)), (4, 2, (1, 1)), (4, 1, (2, 3)), (4, 4, (3, 3))])
def test_relu_inside_is_relu_after(channels, groups, kernel):
    random = np.random.default_rng(0)
    x, weight = random.standard_normal((2, channels, 5, 4)), random.standard_normal((8, channels // groups, *kernel))
    want = F.relu(F.conv2d(x, weight, groups=groups)).numpy()
    np.testing.assert_array_equal(F.conv2d(x, weight, groups=groups, relu=True).numpy(), want)
    assert (want == 0).any() and (want > 0).any()


def test_any_memory_order_gives_the_same():
    x, weight, bias = _inputs()
    want = F.conv2d(x, weight, bias).numpy()
    for array in (np.asfortranarray(x), np.repeat(x, 2, axis=3)[..., ::2]):
        np.testing.assert_array_equal(F.conv2d(array, weight, bias).numpy(), want)
    np.testing.assert_array_equal(F.conv2d(x, np.asfortranarray(weight), bias).numpy(), want)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"x": np.zeros((4, 5, 4))}, ValueError, r"conv2d: input must be \(N, C, H, W\)"),
        ({"groups": 3}, ValueError, "conv2d: groups=3 does not divide the 4 channels"),
        ({"groups": 0}, ValueError, "conv2d: groups must be at least 1"),
        (
            {"weight": np.zeros((6, 3, 3, 3))},
            ValueError,
            r"conv2d: weight must be \(O, 4, kh, kw\) .* got shape \(6, 3",
        ),
        ({"weight": np.zeros((5, 2, 3, 3)), "groups": 2}, ValueError, "groups=2 does not divide the 5 filters"),
        ({"bias": np.zeros(5)}, ValueError, r"conv2d: bias must have shape \(6,\), got \(5,\)"),
        ({"weight": np.zeros((6, 4, 7, 7))}, ValueError, "conv2d: a 7x7 window .* does not fit an image of 5x4"),
        ({"stride": (1, 2, 3)}, TypeError, "conv2d: stride must be an int or a pair"),
        ({"padding": -1}, ValueError, "conv2d: padding must be at least 0, got -1"),
        ({"bias": np.zeros(6, np.float32)}, TypeError, "conv2d: bias is float32 but the input is float64"),
    ],
)
def test_bad_inputs(change, error, message):
    x, weight, bias = _inputs()
    with pytest.raises(error, match=message):
        F.conv2d(**({"x": x, "weight": weight, "bias": bias} | change))
