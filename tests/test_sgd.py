"""SGD against the oracle and PyTorch's closed forms; its settings."""

import numpy as np
import pytest

from sccengine import optim
from sccengine.autograd import Parameter, Tensor
from tests.checks import sgd as checks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", checks.CASES, ids=str)
def test_matches_reference(case, dtype):
    checks.check("cpu", case, dtype)


def test_constant_gradient_with_momentum_sums_a_geometric_series():
    parameter = Parameter(np.zeros(3))
    optimizer = optim.SGD([parameter], lr=0.1, momentum=0.5)
    for _ in range(4):
        parameter.grad = Tensor(np.ones(3))
        optimizer.step()
    np.testing.assert_allclose(parameter.numpy(), -0.1 * (1 + 1.5 + 1.75 + 1.875), rtol=1e-14)


def test_weight_decay_alone_shrinks_by_a_factor():
    parameter = Parameter(np.ones(3))
    optimizer = optim.SGD([parameter], lr=0.1, weight_decay=0.5)
    for _ in range(3):
        parameter.grad = Tensor(np.zeros(3))
        optimizer.step()
    np.testing.assert_allclose(parameter.numpy(), 0.95**3, rtol=1e-14)


@pytest.mark.parametrize(
    "settings, error, message",
    [
        ({"lr": -1.0}, ValueError, "SGD: lr must be a finite number of at least 0, got -1.0"),
        ({"lr": float("nan")}, ValueError, "SGD: lr must be a finite number"),
        ({"lr": "fast"}, TypeError, "SGD: lr must be a number, got 'fast'"),
        ({"lr": 0.1, "momentum": -0.5}, ValueError, "SGD: momentum must be"),
        ({"lr": 0.1, "weight_decay": -1}, ValueError, "SGD: weight_decay must be"),
        ({"lr": 0.1, "nesterov": True}, ValueError, "SGD: nesterov=True needs a momentum above 0"),
    ],
)
def test_bad_settings(settings, error, message):
    with pytest.raises(error, match=message):
        optim.SGD([Parameter(np.zeros(2))], **settings)
