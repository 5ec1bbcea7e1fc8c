"""AdamW against the oracle and closed forms; its settings."""

import numpy as np
import pytest

from sccengine import optim
from sccengine.autograd import Parameter, Tensor
from tests.checks import adamw as checks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", checks.CASES, ids=str)
def test_matches_reference(case, dtype):
    checks.check("cpu", case, dtype)


def test_the_first_step_is_lr_in_the_direction_of_the_sign():
    parameter = Parameter(np.zeros(3))
    optimizer = optim.AdamW([parameter], lr=0.01, eps=0.0, weight_decay=0.0)
    parameter.grad = Tensor(np.array([3.0, -0.001, 1e4]))
    optimizer.step()
    np.testing.assert_allclose(parameter.numpy(), [-0.01, 0.01, -0.01], rtol=1e-12)


def test_a_second_moment_that_float32_holds_does_not_overflow_on_the_way():
    parameter = Parameter(np.ones(9, np.float32))
    optimizer = optim.AdamW([parameter], lr=0.01, weight_decay=0.0)
    parameter.grad = Tensor(np.full(9, 3e19, np.float32))
    optimizer.step()
    np.testing.assert_allclose(parameter.numpy(), np.full(9, 0.99), rtol=1e-6)


def test_weight_decay_is_decoupled_from_the_gradient():
    parameter = Parameter(np.ones(3))
    optimizer = optim.AdamW([parameter], lr=0.1, weight_decay=0.5)
    for _ in range(3):
        parameter.grad = Tensor(np.zeros(3))
        optimizer.step()
    np.testing.assert_allclose(parameter.numpy(), 0.95**3, rtol=1e-14)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"lr": -1.0}, "AdamW: lr must be a finite number of at least 0, got -1.0"),
        ({"betas": (0.9, 1.0)}, r"AdamW: betas must be two numbers .* got \(0.9, 1.0\)"),
        ({"betas": 0.9}, "AdamW: betas must be two numbers"),
        ({"betas": ("a", 0.9)}, "AdamW: betas must be two numbers"),
        ({"eps": -1e-8}, "AdamW: eps must be"),
        ({"weight_decay": float("inf")}, "AdamW: weight_decay must be a finite number"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        optim.AdamW([Parameter(np.zeros(2))], **settings)
