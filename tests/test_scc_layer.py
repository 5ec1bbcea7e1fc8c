"""nn.SCC as a layer: shapes, repr with the window, state, settings, agreement with F.scc."""

import json

import numpy as np
import pytest

import sccengine.functional as F
from sccengine import nn
from sccengine.autograd import Tensor


def test_shapes_keys_and_windows():
    layer = nn.SCC(12, 10, groups=3, overlap=0.5)
    assert {name: array.shape for name, array in layer.state_dict().items()} == {"weight": (10, 4), "bias": (10,)}
    assert (layer.windows.width, layer.windows.shift, layer.windows.cycle) == (4, 2, 6)
    assert list(nn.SCC(12, 10, bias=False).state_dict()) == ["weight"]


def test_forward_and_backward_reach_everything():
    layer = nn.SCC(4, 6, stride=2)
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 3)).astype(np.float32)
    tensor = Tensor(x, requires_grad=True)
    y = layer(tensor)
    assert y.shape == (2, 6, 3, 2)
    want = F.scc(x, layer.weight, layer.bias, groups=2, overlap=0.5, stride=2)
    np.testing.assert_array_equal(y.numpy(), want.numpy())
    y.backward(Tensor(np.ones(y.shape, np.float32)))
    assert all(t.grad is not None for t in (tensor, layer.weight, layer.bias))


def test_repr_shows_the_window_and_the_effective_overlap():
    assert repr(nn.SCC(64, 128)) == "SCC(64, 128, groups=2, overlap=0.5, K=32, S=16, D=4, effective_overlap=0.5)"
    text = repr(nn.SCC(64, 128, groups=4, overlap=0.33, bias=False, stride=(2, 1)))
    assert text == (
        "SCC(64, 128, groups=4, overlap=0.33, K=16, S=11, D=64, effective_overlap=0.3125, stride=(2, 1), bias=False)"
    )


def test_numpys_whole_numbers_become_pythons():
    layer = nn.SCC(*np.array([12, 10]), groups=np.int64(3))
    assert json.loads(json.dumps([layer.in_channels, layer.out_channels, layer.groups])) == [12, 10, 3]


@pytest.mark.parametrize(
    "settings, error, message",
    [
        ({"groups": 5}, ValueError, "groups=5 does not divide in_channels=64"),
        ({"overlap": 1.0}, ValueError, "overlap must be at least 0 and below 1, got 1.0"),
        ({"out_channels": 0}, ValueError, "out_channels must be at least 1, got 0"),
        ({"in_channels": 64.0}, TypeError, "in_channels must be a whole number, got 64.0"),
        ({"stride": 0}, ValueError, "SCC: stride must be at least 1, got 0"),
    ],
)
def test_bad_settings(settings, error, message):
    with pytest.raises(error, match=message):
        nn.SCC(**{"in_channels": 64, "out_channels": 128, **settings})
