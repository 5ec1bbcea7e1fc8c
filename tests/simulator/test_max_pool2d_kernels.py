"""Max pooling's winners where numbers do not order: NaN, infinities, equals; the public function shows values only."""

import numpy as np
import pytest

from sccengine import reference
from sccengine.kernels.cuda import max_pool2d

WINDOWS = [((2, 2), (2, 2), (0, 0)), ((3, 3), (2, 1), (1, 1)), ((3, 2), (1, 2), (1, 1)), ((2, 2), (3, 3), (0, 1))]


@pytest.mark.parametrize("kernel, stride, padding", WINDOWS)
@pytest.mark.parametrize("values", [[np.nan, 1.0, 2.0], [-np.inf], [-np.inf, np.nan], [0.0, -0.0], [np.inf, 3.0]])
def test_winners(values, kernel, stride, padding):
    x = np.random.default_rng(0).choice(values, (2, 2, 5, 4)).astype(np.float32)
    want, winners = reference.max_pool2d_forward(x, kernel, stride, padding)
    rows_shape = (*want.shape[1:], 2)
    y, indices = np.empty(rows_shape, np.float32), np.full(rows_shape, -1, np.int32)
    max_pool2d.forward(np.ascontiguousarray(np.moveaxis(x, 0, -1)), y, indices, kernel, stride, padding)
    np.testing.assert_array_equal(np.moveaxis(y, -1, 0), want)
    np.testing.assert_array_equal(np.moveaxis(indices, -1, 0), winners)
