"""Addition: values, gradients, fan-out into one operand, bad inputs."""

import numpy as np
import pytest

import sccengine.functional as F
from sccengine.autograd import Tensor
from sccengine.gradcheck import check_gradients
from tests.checks import add as checks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", checks.CASES, ids=str)
def test_matches_reference(case, dtype):
    checks.check("cpu", case, dtype)


def test_gradcheck():
    random = np.random.default_rng(0)
    check_gradients(F.add, [random.standard_normal((3, 2, 4, 2)), random.standard_normal((3, 2, 4, 2))])


def test_adding_a_tensor_to_itself_doubles_its_gradient():
    x = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    F.add(x, x).backward(Tensor(np.full((2, 3), 5.0, np.float32)))
    np.testing.assert_array_equal(x.grad.numpy(), np.full((2, 3), 10.0))


def test_only_the_gradient_asked_for():
    a = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    b = Tensor(np.ones((2, 3), np.float32))
    F.add(a, b).backward(Tensor(np.ones((2, 3), np.float32)))
    assert a.grad is not None and b.grad is None


def test_operands_in_different_memory_orders():
    a = np.random.default_rng(1).standard_normal((4, 3, 5, 2))
    b = np.random.default_rng(2).standard_normal((2, 5, 3, 4)).transpose()
    np.testing.assert_array_equal(F.add(a, b).numpy(), a + b)


@pytest.mark.parametrize(
    "b, error, message",
    [
        (np.zeros((2, 4), np.float32), ValueError, r"add: b must have shape \(2, 3\), got \(2, 4\)"),
        (np.zeros((2, 3), np.float64), TypeError, "add: b is float64 but the input is float32"),
    ],
)
def test_bad_inputs(b, error, message):
    with pytest.raises(error, match=message):
        F.add(np.zeros((2, 3), np.float32), b)
