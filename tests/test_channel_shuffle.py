"""Channel shuffle: values, gradients, its inverse, bad inputs, the layer."""

import numpy as np
import pytest

import sccengine.functional as F
from sccengine import nn
from sccengine.autograd import Tensor
from sccengine.gradcheck import check_gradients
from tests.checks import channel_shuffle as checks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", checks.CASES, ids=str)
def test_matches_reference(case, dtype):
    checks.check("cpu", case, dtype)


def test_gradcheck():
    check_gradients(lambda x: F.channel_shuffle(x, 3), [np.random.default_rng(0).standard_normal((3, 6, 2, 2))])


def test_shuffling_with_the_other_factor_is_the_inverse():
    x = np.random.default_rng(0).standard_normal((2, 12, 3, 3))
    np.testing.assert_array_equal(F.channel_shuffle(F.channel_shuffle(x, 3), 4).numpy(), x)


def test_order_of_channels():
    x = np.arange(6, dtype=np.float32).reshape(1, 6)
    np.testing.assert_array_equal(F.channel_shuffle(x, 2).numpy(), [[0, 3, 1, 4, 2, 5]])


@pytest.mark.parametrize(
    "groups, error, message",
    [
        (4, ValueError, "channel_shuffle: groups=4 does not divide the input's 6 channels"),
        (0, ValueError, "channel_shuffle: groups must be at least 1, got 0"),
        (2.0, TypeError, "channel_shuffle: groups must be a whole number, got 2.0"),
        (True, TypeError, "channel_shuffle: groups must be a whole number, got True"),
    ],
)
def test_bad_inputs(groups, error, message):
    with pytest.raises(error, match=message):
        F.channel_shuffle(np.zeros((1, 6), np.float32), groups)


def test_layer():
    x = Tensor(np.arange(6, dtype=np.float32).reshape(1, 6))
    layer = nn.ChannelShuffle(3)
    np.testing.assert_array_equal(layer(x).numpy(), F.channel_shuffle(x, 3).numpy())
    assert repr(layer) == "ChannelShuffle(groups=3)"
    with pytest.raises(ValueError, match="ChannelShuffle: groups must be at least 1, got 0"):
        nn.ChannelShuffle(0)
