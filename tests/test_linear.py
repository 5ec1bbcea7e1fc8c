"""The fully connected layer: values, gradients, bad inputs."""

import numpy as np
import pytest

import sccengine.functional as F
from sccengine.gradcheck import check_gradients
from tests.checks import linear as checks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", checks.CASES, ids=str)
def test_matches_reference(case, dtype):
    checks.check("cpu", case, dtype)


def test_gradcheck():
    random = np.random.default_rng(0)
    inputs = [random.standard_normal(s) for s in ((4, 7), (5, 7), (5,))]
    check_gradients(F.linear, inputs)
    check_gradients(lambda *arrays: F.linear(*arrays, relu=True), inputs)


@pytest.mark.parametrize(
    "x, weight, bias, error, message",
    [
        (
            np.zeros((2, 3, 1)),
            np.zeros((4, 3)),
            None,
            ValueError,
            r"linear: input must be \(N, I\), got shape \(2, 3, 1\)",
        ),
        (
            np.zeros((2, 3)),
            np.zeros((4, 5)),
            None,
            ValueError,
            r"linear: weight must be \(O, 3\) .* got shape \(4, 5\)",
        ),
        (
            np.zeros((2, 3)),
            np.zeros((4, 3)),
            np.zeros(3),
            ValueError,
            r"linear: bias must have shape \(4,\), got \(3,\)",
        ),
        (
            np.zeros((2, 3), "f4"),
            np.zeros((4, 3)),
            None,
            TypeError,
            "linear: weight is float64 but the input is float32",
        ),
        (np.zeros((2, 3), int), np.zeros((4, 3)), None, TypeError, "linear: input must be float32 or float64"),
    ],
)
def test_bad_inputs(x, weight, bias, error, message):
    with pytest.raises(error, match=message):
        F.linear(x, weight, bias)
