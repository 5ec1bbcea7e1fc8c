"""nn.Conv2d as a layer: shapes, repr, settings."""

import json

import numpy as np
import pytest

from sccengine import nn
from sccengine.windows import ChannelWindows


@pytest.mark.parametrize(
    "settings, weight, output",
    [
        ({"kernel_size": 3, "padding": 1}, (6, 4, 3, 3), (2, 6, 7, 5)),
        ({"kernel_size": (3, 1), "stride": 2, "groups": 2}, (6, 2, 3, 1), (2, 6, 3, 3)),
        ({"kernel_size": 1, "bias": False}, (6, 4, 1, 1), (2, 6, 7, 5)),
    ],
)
def test_shapes(settings, weight, output):
    layer = nn.Conv2d(4, 6, **settings)
    assert layer.weight.shape == weight
    assert layer(np.ones((2, 4, 7, 5), np.float32)).shape == output
    assert list(layer.state_dict()) == (["weight", "bias"] if settings.get("bias", True) else ["weight"])


def test_repr_is_pytorchs():
    assert repr(nn.Conv2d(4, 6, 3)) == "Conv2d(4, 6, kernel_size=(3, 3), stride=(1, 1))"
    text = repr(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False))
    assert text == "Conv2d(4, 6, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), groups=2, bias=False)"


def test_numpys_whole_numbers_become_pythons():
    layer = nn.Conv2d(*np.array([4, 6]), kernel_size=np.int64(3), groups=np.int64(2))
    settings = [layer.in_channels, layer.out_channels, layer.groups, layer.kernel_size]
    assert json.loads(json.dumps(settings)) == [4, 6, 2, [3, 3]]


def test_windows_are_those_of_what_is_computed_as_a_contraction():
    assert nn.Conv2d(4, 6, 1, groups=2, stride=2).windows == ChannelWindows.grouped(4, 6, 2)
    assert nn.Conv2d(4, 6, 1, padding=1).windows is nn.Conv2d(4, 4, 1, groups=4).windows is None
    assert nn.Conv2d(4, 6, 3).windows is None


@pytest.mark.parametrize(
    "settings, error, message",
    [
        ({"groups": 3}, ValueError, "Conv2d: groups=3 does not divide in_channels=4"),
        ({"out_channels": 7, "groups": 2}, ValueError, "groups=2 does not divide out_channels=7"),
        ({"kernel_size": 0}, ValueError, "Conv2d: kernel_size must be at least 1, got 0"),
        ({"padding": -1}, ValueError, "Conv2d: padding must be at least 0, got -1"),
        ({"stride": (1, 2, 3)}, TypeError, r"Conv2d: stride must be an int or a pair .* got \(1, 2, 3\)"),
    ],
)
def test_bad_settings(settings, error, message):
    with pytest.raises(error, match=message):
        nn.Conv2d(**{"in_channels": 4, "out_channels": 6, "kernel_size": 3, **settings})
