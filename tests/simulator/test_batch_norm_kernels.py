"""Batch statistics in float32 where the mean is a million times the deviation."""

import numpy as np
import pytest

from sccengine.kernels.cuda import batch_norm


@pytest.mark.parametrize("length", [1, 7, 16, 1203])
def test_statistics_of_a_large_mean(length):
    x = (1e6 + np.random.default_rng(length).standard_normal((2, length))).astype(np.float32)
    weight, bias = np.ones(2, np.float32), np.zeros(2, np.float32)
    y, mean, var = np.empty_like(x), np.empty(2, np.float32), np.empty(2, np.float32)
    batch_norm.forward_training(x, weight, bias, y, mean, var, 1e-5, False)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=1), rtol=6e-8)
    np.testing.assert_allclose(var, exact.var(axis=1), rtol=1e-5, atol=1e-12)
    assert (var >= 0).all()


def test_a_constant_channel_has_no_variance():
    x = np.full((1, 37), 1e6 / 3, np.float32)
    mean, var = np.empty(1, np.float32), np.empty(1, np.float32)
    y = np.empty_like(x)
    batch_norm.forward_training(x, np.ones(1, np.float32), np.ones(1, np.float32), y, mean, var, 1e-5, True)
    assert mean[0] == x[0, 0]
    assert var[0] == 0
    np.testing.assert_array_equal(y, 1)
