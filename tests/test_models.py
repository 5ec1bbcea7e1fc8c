"""Models by name: shapes, widths, parameters, gradients, and errors that list what there is."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

import sccengine.functional as F
from sccengine import Tensor, backend, models, no_grad
from tests.model_counts import COUNTS, IMAGENET, cases

SCHEMES = models.SCHEMES
PUBLISHED = [name for name in models.MODELS if name != "dscnet"]
# Large enough that batch norm finds several values to normalise in the last layers.
SIDES = {name: 32 if name.startswith("vgg") else 12 for name in models.MODELS}


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


@pytest.mark.parametrize("model, scheme, groups, counts", list(cases()))
def test_parameters_and_macs_of_the_published_models(model, scheme, groups, counts):
    result = models.summarize(models.build(model, scheme=scheme, groups=groups, overlap=0.33), (3, 32, 32))
    assert (result.params, result.macs) == counts


def test_counts_in_the_readme():
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    pair = r" +([\d,]+) / ([\d,]+)"
    table = re.findall(rf"^    (\w+){pair}{pair}{pair}$", readme, re.MULTILINE)
    assert len(table) == 4
    for name, *figures in table:
        wanted = COUNTS[name, "standard", 1], COUNTS[name, "dw+pw", 1], COUNTS[name, "dw+gpw", 2]
        assert [int(figure.replace(",", "")) for figure in figures] == [count for pair in wanted for count in pair]


@pytest.mark.parametrize("name", IMAGENET)
def test_parameters_with_the_stem_of_imagenet(name):
    network = models.build(name, scheme="standard", stem="imagenet", num_classes=1000)
    assert count(network) == IMAGENET[name][0]


def test_macs_with_the_stem_of_imagenet():
    network = models.build("resnet18", scheme="standard", stem="imagenet", num_classes=1000)
    assert models.summarize(network, (3, 224, 224)).macs == IMAGENET["resnet18"][1]


@pytest.mark.parametrize("name", PUBLISHED)
def test_input_channels_and_classes_change_the_first_and_the_last_layer_only(name):
    settings = {"width": 0.125, "groups": 4}
    one, other = (
        {key: value.shape for key, value in models.build(name, **settings, **more).state_dict().items()}
        for more in ({}, {"in_channels": 5, "num_classes": 3})
    )
    assert list(one) == list(other)
    assert {key for key in one if one[key] != other[key]} == {"stem.conv.weight", "head.weight", "head.bias"}
    assert other["stem.conv.weight"][1] == 5 and other["head.bias"] == (3,)


@pytest.mark.parametrize("name, divided", [("resnet18", 4), ("mobilenet", 2), ("dscnet", 2), ("vgg11", 1)])
def test_the_stem_of_imagenet_divides_the_sides(name, divided):
    network = models.build(name, stem="imagenet", width=0.125)
    with no_grad():
        y = network.stem(Tensor(np.ones((2, 3, 64, 64), np.float32), device="cpu"))
    assert y.shape[2:] == (64 // divided, 64 // divided)


@pytest.mark.parametrize("name", ["vgg11", "vgg19"])
def test_images_that_poolings_would_empty_are_refused(name):
    network = models.build(name, width=0.125)
    for size in ((8, 8), (31, 64)):
        message = f"VGG: images must be at least 32 x 32, got {size[0]} x {size[1]}"
        with pytest.raises(ValueError, match=message):
            network(Tensor(np.ones((2, 3, *size), np.float32), device="cpu"))
        with pytest.raises(ValueError, match=message):
            models.check_image_size(network, size)
    models.check_image_size(network, (32, 32))
    models.check_image_size(models.build("resnet18", width=0.125), (1, 1))


@pytest.mark.parametrize("model, depths", [(models.VGG, "11, 13, 16, 19"), (models.ResNet, "18, 34, 50")])
def test_other_depths_are_answered_with_those_there_are(model, depths):
    with pytest.raises(ValueError, match=f"{model.__name__}: depth must be one of {depths}, got 12"):
        model(12)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", [(8, 8), (13, 9), (32, 32)])
def test_logits_for_images_of_every_size(scheme, size):
    model = models.build("dscnet", scheme=scheme, in_channels=3, num_classes=7, width=0.25).eval()
    with no_grad():
        logits = model(Tensor(np.ones((2, 3, *size), np.float32), device="cpu"))
    assert logits.shape == (2, 7)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", models.MODELS)
def test_every_parameter_gets_a_finite_gradient(name, scheme):
    backend.set_seed(0)
    model = models.build(name, scheme=scheme, width=0.125)
    images = np.random.default_rng(0).standard_normal((4, 3, SIDES[name], SIDES[name]), np.float32)
    F.cross_entropy(model(Tensor(images, device="cpu")), np.array([0, 1, 2, 3])).backward()
    for key, parameter in model.named_parameters():
        gradient = parameter.grad.numpy()
        assert np.isfinite(gradient).all(), key
        # The norm that follows takes the mean away, and a bias with it.
        if not (key.endswith("bias") and ("mix" in key or "depthwise.bias" in key or "conv.bias" in key)):
            assert np.abs(gradient).max() > 0, key


def test_the_seed_decides_the_weights():
    def build(seed):
        backend.set_seed(seed)
        return models.build("dscnet", in_channels=1).state_dict()

    one, same, other = build(1), build(1), build(2)
    assert all(np.array_equal(one[key], same[key]) for key in one)
    assert not np.array_equal(one["stem.conv.weight"], other["stem.conv.weight"])


def test_width_multiplies_the_channels():
    assert [models.Settings(width=w).scaled(32) for w in (0.01, 0.1, 0.25, 0.3, 0.5, 1, 1.5)] == [
        1,
        4,
        8,
        8,
        16,
        32,
        48,
    ]
    for width in (0.02, 0.1, 0.3, 1.7):
        for groups in (1, 2, 4, 8):
            models.build("dscnet", groups=groups, width=width)
    assert models.build("dscnet", width=2).head.weight.shape == (10, 256)


@pytest.mark.parametrize(
    "settings, error, message",
    [
        ({"name": "vgg"}, ValueError, "unknown model 'vgg'; choose from 'dscnet', 'mobilenet', 'resnet18'"),
        ({"depth": 16}, TypeError, "build: unknown setting 'depth'; choose from scheme, groups, overlap, .*, stem"),
        ({"stem": "small"}, ValueError, "unknown stem 'small'; choose from 'cifar', 'imagenet'"),
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


def test_each_mixing_layer_may_have_groups_and_overlap_of_its_own():
    model = models.build("dscnet", groups=(2, 4, 1), overlap=[0.5, 0.25, 0.0], in_channels=1)
    windows = [model.blocks[i].mix.windows for i in range(3)]
    assert [(w.in_channels, w.width, w.shift) for w in windows] == [(32, 16, 8), (32, 8, 6), (64, 64, 64)]
    assert count(model) == dscnet_parameters(16 * 32 + 8 * 64 + 64 * 128)


@pytest.mark.parametrize("name", models.MODELS)
def test_a_value_for_each_layer_is_what_one_value_for_all_is(name):
    layers = models.mixing_layers(name, 0.25)
    each, all_of_them = (
        models.build(name, width=0.25, groups=groups, overlap=0.25).state_dict() for groups in ([2] * len(layers), 2)
    )
    assert {key: value.shape for key, value in each.items()} == {k: value.shape for k, value in all_of_them.items()}
    model = models.build(name, width=0.25, scheme="dw+scc", groups=1)
    modules = dict(model.named_modules())
    assert [(modules[path].in_channels, modules[path].out_channels) for path, _, _ in layers] == [
        layer[1:] for layer in layers
    ]


def test_asking_for_the_mixing_layers_draws_no_random_numbers():
    backend.set_seed(3)
    before = backend.random_state()
    models.mixing_layers("dscnet", 0.375)
    assert backend.random_state() == before


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"groups": (2, 4)}, "groups must be one value or 3, one for each replaced convolution, got 2: 2,4"),
        ({"overlap": [0.5] * 4}, "overlap must be one value or 3, one for each replaced convolution, got 4: 0.5,"),
        ({"groups": []}, "groups must be a value, or one for each replaced convolution"),
        ({"groups": (2, 3, 2)}, "groups=3 does not divide in_channels=32"),
        ({"groups": (2, 0, 2)}, "groups must be at least 1, got 0"),
    ],
)
def test_bad_settings_by_layer(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        models.build("dscnet", **settings)
