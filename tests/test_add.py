"""Addition: values, gradients, fan-out into one operand, bad inputs."""

import numpy as np
import pytest

import sccengine.functional as F
from sccengine.autograd import Parameter, Tensor
from sccengine.capture import capture_step
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


def _losses():
    trunk = Parameter(np.random.default_rng(3).standard_normal((4, 6)))
    x, heads = np.ones((5, 6)), np.random.default_rng(4).standard_normal((2, 3, 4))
    features = F.linear(x, trunk)
    return trunk, [F.cross_entropy(F.linear(features, Parameter(head)), np.arange(5) % 3) for head in heads]


@pytest.mark.parametrize("total", [F.add, lambda a, b: a + b, lambda *losses: sum(losses)], ids=["add", "+", "sum"])
def test_losses_add_up(total):
    expected = 0
    for which in range(2):
        trunk, losses = _losses()
        losses[which].backward()
        expected = expected + trunk.grad.numpy()
    trunk, losses = _losses()
    loss = total(*losses)
    assert loss.shape == () and loss.item() == losses[0].item() + losses[1].item()
    loss.backward()
    np.testing.assert_allclose(trunk.grad.numpy(), expected, rtol=1e-12)


def test_a_captured_step_adds_losses_up():
    def step():
        trunk, losses = parts
        trunk.grad = None
        (losses() + losses()).backward()
        return trunk.grad

    trunk = Parameter(np.ones((3, 4)))
    x, labels = Tensor(np.ones((2, 4))), Tensor(np.array([0, 2]))
    parts = trunk, lambda: F.cross_entropy(F.linear(x, trunk), labels)
    captured = capture_step(step)
    eager, _, replayed = (captured().numpy().copy() for _ in range(3))
    np.testing.assert_array_equal(replayed, eager)


def test_losses_of_one_forward_that_are_not_added_up_are_told_how():
    trunk, losses = _losses()
    losses[0].backward()
    with pytest.raises(RuntimeError, match=r"add up losses first: \(loss1 \+ loss2\)\.backward\(\)"):
        losses[1].backward()


def test_the_plus_sign_takes_tensors_of_one_shape():
    x = Tensor(np.float32([[1, 2]]))
    np.testing.assert_array_equal((x + x).numpy(), [[2, 4]])
    for other in (1.0, np.ones((1, 2), np.float32), [[1, 2]], None):
        with pytest.raises(TypeError, match=rf"\+ adds up two Tensors of one shape, .* {type(other).__name__}"):
            x + other
    with pytest.raises(TypeError, match="got a Tensor and int"):
        1 + x
    with pytest.raises(ValueError, match=r"add: b must have shape \(1, 2\), got \(\)"):
        x + Tensor(1.0)


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
