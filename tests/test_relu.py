"""ReLU and ReLU6: values, gradients, the ends of the range, bad inputs, the layers."""

import numpy as np
import pytest

import sccengine.functional as F
from sccengine import nn
from sccengine.autograd import Tensor
from sccengine.gradcheck import check_gradients
from tests.checks import relu as checks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", checks.CASES, ids=str)
def test_matches_reference(case, dtype):
    checks.check("cpu", case, dtype)


@pytest.mark.parametrize("operator", [F.relu, F.relu6])
def test_gradcheck(operator):
    x = np.random.default_rng(0).uniform(-9, 9, (3, 2, 4, 2))
    check_gradients(operator, [x])


@pytest.mark.parametrize("operator, ceiling", [(F.relu, np.inf), (F.relu6, 6.0)])
def test_gradient_is_zero_at_both_ends(operator, ceiling):
    x = Tensor(np.array([[-1.0, 0.0, 1e-6, 6.0, 7.0]], dtype=np.float32), requires_grad=True)
    y = operator(x)
    y.backward(Tensor(np.ones((1, 5), dtype=np.float32)))
    np.testing.assert_array_equal(y.numpy(), np.minimum(np.float32([[0, 0, 1e-6, 6, 7]]), np.float32(ceiling)))
    np.testing.assert_array_equal(x.grad.numpy(), [[0, 0, 1, float(6 < ceiling), float(7 < ceiling)]])


def test_the_gradient_passes_where_relu_is_infinite_and_where_it_is_nan():
    x = Tensor(np.array([[np.inf, np.nan, -np.inf]], np.float32), requires_grad=True)
    F.relu(x).backward(Tensor(np.ones((1, 3), np.float32)))
    np.testing.assert_array_equal(x.grad.numpy(), [[1, 1, 0]])


def test_nan_stays_visible():
    assert np.isnan(F.relu(np.full((1, 2), np.nan, dtype=np.float32)).numpy()).all()
    assert np.isnan(F.relu6(np.full((1, 2), np.nan, dtype=np.float32)).numpy()).all()


def test_any_memory_order_gives_the_same():
    x = np.random.default_rng(1).standard_normal((4, 6, 5, 3))
    want = np.maximum(x, 0)
    for array in (x, np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2], x[::-1][::-1]):
        np.testing.assert_array_equal(F.relu(array).numpy(), want)


@pytest.mark.parametrize(
    "x, error, message",
    [
        (np.zeros((2, 3), np.int64), TypeError, "relu: input must be float32 or float64, got int64"),
        (np.zeros(3, np.float32), ValueError, r"relu: input must be \(N, C\) .* got shape \(3,\)"),
        (np.zeros((0, 3), np.float32), ValueError, r"relu: every axis .* got shape \(0, 3\)"),
    ],
)
def test_bad_inputs(x, error, message):
    with pytest.raises(error, match=message):
        F.relu(x)
    with pytest.raises(error, match=message.replace("relu:", "relu6:")):
        F.relu6(x)


def test_layers():
    x = np.float32([[-1, 3, 9]])
    np.testing.assert_array_equal(nn.ReLU()(x).numpy(), [[0, 3, 9]])
    np.testing.assert_array_equal(nn.ReLU6()(x).numpy(), [[0, 3, 6]])
    assert repr(nn.ReLU()) == "ReLU()" and repr(nn.ReLU6()) == "ReLU6()"
