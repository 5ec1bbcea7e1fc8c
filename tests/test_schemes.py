"""Schemes: the layers that stand in for a convolution, their settings, and their counts by the published formulas."""

import math

import numpy as np
import pytest

from sccengine import Tensor, nn, no_grad
from sccengine.models.schemes import SCHEMES, channel_mixing, check_scheme, depthwise, replacement


def parameters(layers):
    return sum(math.prod(p.shape) for layer in layers.values() for p in layer.parameters())


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kernel", [3, 5])
def test_counts_follow_the_closed_formulas(groups, kernel):
    c, o, area = 16, 24, kernel * kernel
    mixing = {
        "dw+pw": c * o + o,
        "dw+gpw": c // groups * o + o,
        "dw+gpw+shuffle": c // groups * o + o,
        "dw+scc": c // groups * o + o,
    }
    for scheme, count in mixing.items():
        layers = replacement(scheme, c, o, kernel, groups=groups, overlap=0.33)
        assert parameters(layers) == c * area + c + count, scheme
    for bias in (True, False):
        assert parameters(replacement("standard", c, o, kernel, bias=bias)) == c * o * area + o * bias


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size, stride", [((8, 8), 1), ((8, 8), 2), ((7, 5), 2), ((1, 1), 1)])
def test_every_scheme_gives_the_shape_of_the_convolution_it_replaces(scheme, size, stride):
    network = nn.Sequential(replacement(scheme, 8, 12, stride=stride, groups=2, norm=nn.BatchNorm2d))
    with no_grad():
        y = network(Tensor(np.ones((2, 8, *size), np.float32), device="cpu"))
    assert y.shape == (2, 12, *(math.ceil(s / stride) for s in size))


def test_what_stands_where():
    layers = replacement("dw+gpw+shuffle", 8, 12, stride=2, groups=4, norm=nn.BatchNorm2d)
    assert list(layers) == ["depthwise", "depthwise_norm", "mix", "shuffle"]
    assert layers["depthwise"].stride == (2, 2) and layers["depthwise"].groups == 8
    assert layers["mix"].kernel_size == (1, 1) and layers["mix"].groups == 4
    assert layers["shuffle"].groups == 4
    assert list(replacement("dw+scc", 8, 12)) == ["depthwise", "mix"]
    assert all(layer.bias is not None for layer in (depthwise(8), layers["mix"]))


def test_sliding_windows_are_those_asked_for():
    windows = channel_mixing("dw+scc", 12, 20, groups=3, overlap=0.5)["mix"].windows
    assert (windows.width, windows.shift) == (4, 2)


@pytest.mark.parametrize("scheme", ["dw+gpw", "dw+gpw+shuffle", "dw+scc"])
def test_layers_narrower_than_the_groups_are_pointwise_and_wider_ones_are_not_touched(scheme):
    narrow, wide = (channel_mixing(scheme, channels, 8, groups=4)["mix"] for channels in (3, 4))
    assert (narrow.groups, narrow.weight.shape[1]) == (1, 3)
    assert narrow.note == "3 input channels, fewer than groups=4: built with groups=1 (pointwise)"
    assert (wide.groups, wide.weight.shape[1]) == (4, 1)
    assert not hasattr(wide, "note")
    with pytest.raises(ValueError, match="6"):
        channel_mixing(scheme, 6, 8, groups=4)


def test_unknown_schemes_are_answered_with_the_names():
    with pytest.raises(ValueError, match="unknown scheme 'dw'; choose from 'standard', 'dw\\+pw'"):
        check_scheme("dw")
    with pytest.raises(ValueError, match="unknown scheme"):
        replacement("scc", 4, 4)
