"""Models by name: shapes, widths, parameters, gradients, and errors that list what there is."""

import math

import numpy as np
import pytest

import sccengine.functional as F
from sccengine import Tensor, backend, models, no_grad
from sccengine.models.parts import scaled

SCHEMES = models.SCHEMES


def count(model):
    return sum(math.prod(p.shape) for p in model.parameters())


def dscnet_parameters(mixing):
    """By hand, for one input channel and ten classes; `mixing` is the weights of the three channel-mixing layers."""
    stem = 9 * 32 + 2 * 32
    depthwise = sum(9 * c + c + 2 * c for c in (32, 32, 64))
    mixed = mixing + sum(o + 2 * o for o in (32, 64, 128))
    return stem + depthwise + mixed + 128 * 10 + 10


@pytest.mark.parametrize(
    "scheme, groups, mixing",
    [
        ("dw+pw", 2, 32 * 32 + 32 * 64 + 64 * 128),
        ("dw+scc", 1, 32 * 32 + 32 * 64 + 64 * 128),
        ("dw+scc", 2, 16 * 32 + 16 * 64 + 32 * 128),
        ("dw+gpw", 4, 8 * 32 + 8 * 64 + 16 * 128),
        ("dw+gpw+shuffle", 8, 4 * 32 + 4 * 64 + 8 * 128),
    ],
)
def test_dscnet_has_the_parameters_of_its_closed_formula(scheme, groups, mixing):
    model = models.build("dscnet", scheme=scheme, groups=groups, in_channels=1)
    assert count(model) == dscnet_parameters(mixing)


def test_standard_blocks_are_one_convolution_and_one_norm():
    expected = 9 * 32 + 64 + sum(9 * i * o + 2 * o for i, o in ((32, 32), (32, 64), (64, 128))) + 1290
    assert count(models.build("dscnet", scheme="standard", in_channels=1)) == expected


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", [(8, 8), (13, 9), (32, 32)])
def test_logits_for_images_of_every_size(scheme, size):
    model = models.build("dscnet", scheme=scheme, in_channels=3, num_classes=7, width=0.25).eval()
    with no_grad():
        logits = model(Tensor(np.ones((2, 3, *size), np.float32), device="cpu"))
    assert logits.shape == (2, 7)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_parameter_gets_a_gradient(scheme):
    backend.set_seed(0)
    model = models.build("dscnet", scheme=scheme, in_channels=1, width=0.25)
    images = np.random.default_rng(0).standard_normal((4, 1, 8, 8), np.float32)
    F.cross_entropy(model(Tensor(images, device="cpu")), np.array([0, 1, 2, 3])).backward()
    for name, parameter in model.named_parameters():
        # The norm that follows takes the mean away, and a bias with it.
        if not (name.endswith("bias") and ("mix" in name or "depthwise.bias" in name)):
            assert np.abs(parameter.grad).max() > 0, name


def test_the_seed_decides_the_weights():
    def build(seed):
        backend.set_seed(seed)
        return models.build("dscnet", in_channels=1).state_dict()

    one, same, other = build(1), build(1), build(2)
    assert all(np.array_equal(one[key], same[key]) for key in one)
    assert not np.array_equal(one["stem.conv.weight"], other["stem.conv.weight"])


def test_width_multiplies_the_channels():
    assert [scaled(32, w) for w in (0.01, 0.1, 0.25, 0.3, 0.5, 1, 1.5)] == [1, 4, 8, 8, 16, 32, 48]
    for width in (0.02, 0.1, 0.3, 1.7):
        for groups in (1, 2, 4, 8):
            models.build("dscnet", groups=groups, width=width)
    assert models.build("dscnet", width=2).head.weight.shape == (10, 256)


@pytest.mark.parametrize(
    "settings, error, message",
    [
        ({"name": "vgg"}, ValueError, "unknown model 'vgg'; choose from 'dscnet'"),
        ({"scheme": "scc"}, ValueError, "unknown scheme 'scc'; choose from 'standard'"),
        ({"groups": 0}, ValueError, "groups must be at least 1, got 0"),
        ({"groups": 2.0}, TypeError, "groups must be a whole number, got 2.0"),
        ({"groups": 3}, ValueError, "3"),
        ({"overlap": 1.0}, ValueError, "overlap"),
        ({"overlap": -0.1}, ValueError, "overlap"),
        ({"overlap": "half"}, (TypeError, ValueError), "overlap"),
        ({"width": 0}, ValueError, "width must be a finite number above 0, got 0"),
        ({"width": float("nan")}, ValueError, "width must be a finite number"),
        ({"width": "wide"}, TypeError, "width must be a number, got 'wide'"),
        ({"in_channels": 0}, ValueError, "in_channels must be at least 1"),
        ({"num_classes": True}, TypeError, "num_classes must be a whole number, got True"),
    ],
)
def test_wrong_settings_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        models.build(**{"name": "dscnet", **settings})
