"""Gradient clipping against the oracle; what it leaves alone."""

import numpy as np
import pytest

from sccengine import optim
from sccengine.autograd import Parameter, Tensor
from sccengine.backend import num_threads, set_num_threads
from sccengine.kernels.cpu import clip_grad_norm as kernels
from tests.checks import clip_grad_norm as checks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", checks.CASES, ids=str)
def test_matches_reference(case, dtype):
    checks.check("cpu", case, dtype)


def test_parameters_without_gradient_are_skipped():
    frozen, trained = Parameter(np.ones(2)), Parameter(np.ones(2))
    trained.grad = Tensor(np.array([3.0, 4.0]))
    assert float(optim.clip_grad_norm([frozen, trained], 1.0)) == pytest.approx(5.0)
    np.testing.assert_allclose(trained.grad.numpy(), [0.6, 0.8], rtol=1e-6)
    assert frozen.grad is None
    assert float(optim.clip_grad_norm([frozen], 1.0)) == 0.0


def test_a_single_parameter():
    parameter = Parameter(np.ones(1))
    parameter.grad = Tensor(np.array([8.0]))
    assert float(optim.clip_grad_norm(parameter, 2.0)) == 8.0
    np.testing.assert_allclose(parameter.grad.numpy(), [2.0], rtol=1e-6)


@pytest.mark.parametrize("value, others", [(np.nan, np.nan), (np.inf, 0.0)])
def test_a_norm_that_is_not_finite(value, others):
    parameters = [Parameter(np.ones(2)), Parameter(np.ones(1))]
    parameters[0].grad, parameters[1].grad = Tensor(np.array([value, 1.0])), Tensor(np.array([3.0]))
    norm = optim.clip_grad_norm(parameters, 1.0)
    np.testing.assert_array_equal(float(norm), value)
    np.testing.assert_array_equal(parameters[0].grad.numpy(), [np.nan, others])
    np.testing.assert_array_equal(parameters[1].grad.numpy(), [others])


@pytest.mark.skipif(num_threads() < 2, reason="needs two threads")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_norm_has_the_same_bits_with_any_number_of_threads(dtype):
    before = num_threads()
    rng = np.random.default_rng(0)
    gradients = [rng.standard_normal(70001 + n).astype(dtype) for n in range(20)]
    found = []
    try:
        for threads in (1, 2):
            set_num_threads(threads)
            norms = np.empty((len(gradients), 1))
            for gradient, norm in zip(gradients, norms):
                kernels.norm([gradient], norm)
            found.append(norms.tolist())
    finally:
        set_num_threads(before)
    assert found[0] == found[1]


@pytest.mark.parametrize("max_norm", [0, -1.0, float("nan")])
def test_bad_limit(max_norm):
    with pytest.raises(ValueError, match="clip_grad_norm: max_norm must be above 0, got"):
        optim.clip_grad_norm([Parameter(np.ones(1))], max_norm)
