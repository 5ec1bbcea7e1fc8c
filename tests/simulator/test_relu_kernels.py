"""ReLU and ReLU6 at their corners, where a GPU's min and max would lose a NaN."""

import math

import numpy as np
import pytest

from sccengine.kernels.cuda import relu

X = [np.nan, -np.inf, -1.0, -0.0, 0.0, 1e-40, 5.0, 6.0, 7.0, np.inf]


@pytest.mark.parametrize(
    "ceiling, values, passes",
    [
        (math.inf, [np.nan, 0, 0, 0, 0, 1e-40, 5, 6, 7, np.inf], [1, 0, 0, 0, 0, 1, 1, 1, 1, 1]),
        (6.0, [np.nan, 0, 0, 0, 0, 1e-40, 5, 6, 6, 6], [1, 0, 0, 0, 0, 1, 1, 0, 0, 0]),
    ],
)
def test_corners(ceiling, values, passes):
    x = np.array(X, np.float32)
    y, dx = np.empty_like(x), np.full_like(x, np.nan)
    relu.forward(x, y, ceiling)
    np.testing.assert_array_equal(y, np.array(values, np.float32))
    relu.backward(np.full_like(x, 3.0), y, dx, ceiling)
    np.testing.assert_array_equal(dx, 3.0 * np.array(passes))
