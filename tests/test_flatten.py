"""Flatten: values, gradients, that it moves nothing in batch-last memory, bad inputs, the layer."""

import numpy as np
import pytest

import sccengine.functional as F
from sccengine import backend, nn
from sccengine.autograd import Tensor
from sccengine.gradcheck import check_gradients
from tests.checks import flatten as checks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", checks.CASES, ids=str)
def test_matches_reference(case, dtype):
    checks.check("cpu", case, dtype)


def test_gradcheck():
    check_gradients(F.flatten, [np.random.default_rng(0).standard_normal((3, 2, 4, 2))])


def test_it_shares_memory():
    x = Tensor(np.zeros((3, 4, 5, 2), np.float32))
    y = F.flatten(x)
    assert y.shape == (3, 40)
    assert backend.owner(y.array) is backend.owner(x.array)


def test_channels_are_slowest():
    x = np.arange(2 * 3 * 2 * 2, dtype=np.float32).reshape(2, 3, 2, 2)
    np.testing.assert_array_equal(F.flatten(x).numpy(), x.reshape(2, 12))


def test_bad_input():
    with pytest.raises(ValueError, match=r"flatten: input must be \(N, C\) or .* got shape \(4,\)"):
        F.flatten(np.zeros(4, np.float32))


def test_layer():
    assert nn.Flatten()(np.zeros((2, 3, 4, 5), np.float32)).shape == (2, 60)
    assert repr(nn.Flatten()) == "Flatten()"
