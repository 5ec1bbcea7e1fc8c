"""Multiplication by a number: values, gradients, weighted losses, the * sign, bad inputs."""

import numpy as np
import pytest

import sccengine.functional as F
from sccengine.autograd import Parameter, Tensor
from sccengine.capture import capture_step
from sccengine.gradcheck import check_gradients
from tests.checks import scale as checks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", checks.CASES, ids=str)
def test_matches_reference(case, dtype):
    checks.check("cpu", case, dtype)


def test_gradcheck():
    check_gradients(lambda x: F.scale(x, -1.7), [np.random.default_rng(0).standard_normal((3, 2, 4, 2))])


def test_any_memory_order_gives_the_same():
    x = np.random.default_rng(1).standard_normal((4, 6, 5, 3))
    for array in (x, np.asfortranarray(x), x[:, ::2], x[::-1]):
        np.testing.assert_array_equal(F.scale(array, 3).numpy(), 3 * array)


def test_what_is_no_number_stays_visible():
    np.testing.assert_array_equal(F.scale(np.float32([np.nan, np.inf]), 0).numpy(), [np.nan, np.nan])


@pytest.mark.parametrize("weighted", [lambda x: 0.25 * x, lambda x: x * 0.25, lambda x: x * np.float64(0.25)])
def test_the_multiplication_sign_takes_a_number(weighted):
    x = Tensor(np.float32([[1, 2]]), requires_grad=True)
    y = weighted(x)
    y.backward(np.float32([[4, 8]]))
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y.numpy(), [[0.25, 0.5]])
    np.testing.assert_array_equal(x.grad.numpy(), [[1, 2]])


def test_a_weighted_sum_of_losses_is_captured():
    weight = Parameter(np.random.default_rng(2).standard_normal((3, 4)))
    x, labels = Tensor(np.ones((2, 4))), Tensor(np.array([0, 2]))

    def step():
        weight.grad = None
        logits = F.linear(x, weight)
        loss = F.cross_entropy(logits, labels) + 0.5 * F.cross_entropy(logits, labels, label_smoothing=0.3)
        loss.backward()
        return loss, weight.grad

    captured = capture_step(step)
    eager, _, replayed = ([tensor.numpy().copy() for tensor in captured()] for _ in range(3))
    for one, other in zip(eager, replayed):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda x: F.scale(x, "2"), TypeError, "scale: factor must be a number, got '2'"),
        (lambda x: F.scale(x, True), TypeError, "scale: factor must be a number, got True"),
        (lambda x: F.scale(x, np.inf), ValueError, "scale: factor must be finite, got inf"),
        (lambda x: F.scale(np.arange(3), 2), TypeError, "scale: input must be float32 or float64, got int64"),
        (lambda x: F.scale(np.zeros((0, 3)), 2), ValueError, r"scale: every axis .* got shape \(0, 3\)"),
        (lambda x: x * x, TypeError, r"\* multiplies a Tensor by a number, got Tensor"),
        (lambda x: x * np.ones(2), TypeError, r"\* multiplies a Tensor by a number, got ndarray"),
        (lambda x: [2] * x, TypeError, r"\* multiplies a Tensor by a number, got list"),
    ],
)
def test_bad_inputs(call, error, message):
    with pytest.raises(error, match=message):
        call(Tensor(np.float32([1, 2])))
