"""Subsampling of images by strides, forward and backward, against plain loops."""

import numpy as np
import pytest

from sccengine.kernels.cpu import subsample
from tests.subsampling import CASES, check


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape, stride", CASES)
def test_every_strided_pixel_and_zeros_between(shape, stride, dtype):
    check(subsample, shape, stride, np.dtype(dtype))
