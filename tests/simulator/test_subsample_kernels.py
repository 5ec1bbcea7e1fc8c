"""Subsampling and the copies between operators, in the simulator."""

import numpy as np
import pytest

from sccengine.kernels.cuda import copy, subsample
from tests.subsampling import CASES, check


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape, stride", CASES)
def test_every_strided_pixel_and_zeros_between(shape, stride, dtype):
    check(subsample, shape, stride, np.dtype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 8, 21])
def test_copy_and_fill(count, dtype):
    x = np.random.default_rng(0).standard_normal(count).astype(dtype)
    y = np.full(count, np.nan, dtype)
    copy.copy(x, y)
    np.testing.assert_array_equal(y, x)
    copy.fill(y, 1)
    np.testing.assert_array_equal(y, 1)
