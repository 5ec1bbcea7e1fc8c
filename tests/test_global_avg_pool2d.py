"""Global average pooling: values, gradients, bad inputs, the layer."""

import numpy as np
import pytest

import sccengine.functional as F
from sccengine import nn
from sccengine.autograd import Tensor
from sccengine.gradcheck import check_gradients
from tests.checks import global_avg_pool2d as checks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", checks.CASES, ids=str)
def test_matches_reference(case, dtype):
    checks.check("cpu", case, dtype)


def test_gradcheck():
    check_gradients(F.global_avg_pool2d, [np.random.default_rng(0).standard_normal((3, 2, 4, 2))])


def test_any_memory_order_gives_the_same():
    x = np.random.default_rng(1).standard_normal((4, 6, 5, 3))
    np.testing.assert_allclose(F.global_avg_pool2d(np.asfortranarray(x)).numpy(), x.mean((2, 3)), rtol=0, atol=1e-15)


def test_bad_inputs():
    with pytest.raises(ValueError, match=r"global_avg_pool2d: input must be \(N, C, H, W\), got shape \(2, 3\)"):
        F.global_avg_pool2d(np.zeros((2, 3), np.float32))
    with pytest.raises(TypeError, match="global_avg_pool2d: input must be float32 or float64, got int32"):
        F.global_avg_pool2d(Tensor(np.zeros((2, 3, 1, 1), np.int32)))


def test_layer():
    layer = nn.GlobalAvgPool2d()
    assert layer(np.ones((2, 3, 4, 4), np.float32)).shape == (2, 3)
    assert repr(layer) == "GlobalAvgPool2d()"
