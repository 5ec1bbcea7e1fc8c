"""Converting pointwise layers to sliding-channel ones: orders cost nothing, projections lose least."""

import itertools

import numpy as np
import pytest

import sccengine as scc
import sccengine.functional as F
from sccengine import models, nn
from sccengine.interop import convert
from sccengine.interop.assignment import assign
from sccengine.interop.axes import channel_axes
from sccengine.interop.trace import trace
from sccengine.models.mode import evaluation_mode
from sccengine.windows import ChannelWindows
from tests.randomised import randomised


def outputs(model, images):
    with evaluation_mode(model):
        return model(scc.Tensor(images)).numpy().copy()


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_assignment_is_the_best_of_all(size):
    rng = np.random.default_rng(size)
    for gain in (rng.standard_normal((size, size)), rng.integers(0, 3, (size, size)), np.zeros((size, size))):
        found = assign(gain)
        assert sorted(found) == list(range(size))
        best = max(sum(gain[p[j], j] for j in range(size)) for p in itertools.permutations(range(size)))
        assert abs(gain[found, np.arange(size)].sum() - best) < 1e-12


@pytest.mark.parametrize("scheme", models.SCHEMES)
@pytest.mark.parametrize("name", ["dscnet", "mobilenet", "resnet18", "resnet50", "vgg11"])
def test_renumbering_the_axes_changes_nothing(name, scheme):
    model = randomised(models.build(name, scheme=scheme, groups=4, width=0.125, in_channels=2))
    images = np.random.default_rng(1).standard_normal((2, 2, 32, 32)).astype(np.float32)
    before, state = outputs(model, images), model.state_dict()
    axes = channel_axes(trace(model, (2, 32, 32)), model)
    rng = np.random.default_rng(2)
    orders = {axis: rng.permutation(size) for axis, size in axes.sizes().items()}
    axes.reorder(orders)
    np.testing.assert_allclose(outputs(model, images), before, rtol=1e-3, atol=1e-4 * np.abs(before).max())
    changed = [key for key, value in model.state_dict().items() if not np.array_equal(value, state[key])]
    # Grouped and sliding layers pin what they read and write.
    if scheme in ("standard", "dw+pw"):
        assert len(changed) > len(state) / 2


class Computing(nn.Module):
    """Two convolutions, the second with a weight that is an operator's result."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 6, 1)
        self.second = nn.Conv2d(6, 4, 1)

    def forward(self, x):
        x = F.conv2d(self.first(x), F.relu(self.second.weight), self.second.bias)
        return F.global_avg_pool2d(x)


def test_a_computed_weight_keeps_its_place():
    model = Computing()
    axes = channel_axes(trace(model, (2, 3, 3)), model)
    assert axes.sizes() == {} and list(axes.pointwise) == ["first"]


def test_a_network_that_was_sliding_in_another_order_is_found_again():
    scc.set_seed(0)
    sliding = randomised(models.build("dscnet", scheme="dw+scc", groups=2, overlap=0.5, width=0.25, in_channels=1))
    state = sliding.state_dict()
    for name, layer in sliding.named_modules():
        if isinstance(layer, nn.SCC):
            state[f"{name}.weight"] = layer.windows.scatter(layer.weight.numpy())[:, :, None, None]
    dense = models.build("dscnet", scheme="dw+pw", width=0.25, in_channels=1)
    dense.load_state_dict(state)
    axes = channel_axes(trace(dense, (1, 8, 8)), dense)
    rng = np.random.default_rng(5)
    axes.reorder({axis: rng.permutation(size) for axis, size in axes.sizes().items()})
    images = rng.standard_normal((3, 1, 8, 8)).astype(np.float32)

    found, report = convert.to_scc(dense, (1, 8, 8), groups=2, overlap=0.5, restarts=20)
    assert [row.name for row in report] == [f"blocks.{i}.mix" for i in range(3)]
    for row in report:
        assert row.energy < 0.75 * row.unsorted and row.error is None
    assert sum(row.energy for row in report) < 0.5 * sum(row.unsorted for row in report)
    twin = models.build("dscnet", scheme="dw+scc", width=0.25, in_channels=1)
    twin.load_state_dict(found.state_dict())
    np.testing.assert_array_equal(outputs(twin, images), outputs(found, images))


def test_a_factor_leaves_channels_free_to_be_renumbered():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 3, 1)

        def forward(self, x):
            return self.last(0.5 * self.first(x))

    model = Scaled()
    assert list(channel_axes(trace(model, (2, 4, 4)), model).sizes().values()) == [8]


@pytest.mark.parametrize("overlap", [0, 0.33, 0.5])
def test_one_group_loses_nothing(overlap):
    model = randomised(models.build("vgg11", scheme="dw+pw", width=0.125))
    images = np.random.default_rng(1).standard_normal((2, 3, 32, 32)).astype(np.float32)
    found, report = convert.to_scc(model, (3, 32, 32), groups=1, overlap=overlap, calibration=images, restarts=0)
    before = outputs(model, images)
    assert max(row.energy for row in report) < 1e-12
    np.testing.assert_allclose(outputs(found, images), before, rtol=1e-2, atol=1e-2 * np.abs(before).max())


def test_projection_is_least_squares():
    rng = np.random.default_rng(0)
    windows = ChannelWindows.sliding(8, 6, 2, 0.5)
    weight = rng.standard_normal((6, 8))
    x = rng.standard_normal((8, 8)) @ rng.standard_normal((8, 500))
    taps = convert.project(weight, windows, x @ x.T / 500)
    for row, kept in enumerate(windows.channels()):
        wanted = np.linalg.lstsq(x[kept].T, weight[row] @ x, rcond=None)[0]
        np.testing.assert_allclose(taps[row], wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(windows.scatter(convert.project(weight, windows)), weight * windows.mask())


def test_calibration_loses_less_than_truncation():
    model = randomised(models.build("dscnet", scheme="dw+pw", width=0.25, in_channels=1))
    rng = np.random.default_rng(3)
    images, held_out = rng.standard_normal((2, 200, 1, 8, 8)).astype(np.float32)
    before, state = outputs(model, held_out), model.state_dict()
    errors = []
    for calibration in (None, images):
        found, report = convert.to_scc(model, (1, 8, 8), calibration=calibration)
        errors.append(np.square(outputs(found, held_out) - before).mean())
    assert errors[1] < 0.7 * errors[0]
    assert all(0 < row.error < 1 for row in report)
    assert all(np.array_equal(value, state[key]) for key, value in model.state_dict().items())


def test_every_layer_may_have_its_own_windows():
    model = randomised(models.build("dscnet", scheme="dw+pw", width=0.25, in_channels=1))
    settings = {"groups": [1, 4, 2], "overlap": (0, 0.25, 0.5)}
    found, _ = convert.to_scc(model, (1, 8, 8), restarts=0, **settings)
    layers = [layer for layer in found.modules() if isinstance(layer, nn.SCC)]
    assert [(layer.groups, layer.overlap) for layer in layers] == [(1, 0), (4, 0.25), (2, 0.5)]
    twin = models.build("dscnet", scheme="dw+scc", width=0.25, in_channels=1, **settings)
    twin.load_state_dict(found.state_dict())
    images = np.random.default_rng(1).standard_normal((2, 1, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(outputs(twin, images), outputs(found, images))


def test_layers_by_name_and_what_cannot_be_converted():
    model = models.build("resnet50", scheme="dw+pw", width=0.125)
    found, report = convert.to_scc(model, (3, 8, 8), layers=["stages.0.0.body.expand"], restarts=0)
    assert [row.name for row in report] == ["stages.0.0.body.expand"]
    assert isinstance(dict(found.named_modules())["stages.0.0.body.expand"], nn.SCC)
    with pytest.raises(ValueError, match=r"groups must be one value or 7, one for each of .*; got 2"):
        convert.to_scc(models.build("vgg11", scheme="dw+pw", width=0.125), (3, 32, 32), groups=[2, 4])
    with pytest.raises(ValueError, match="'stem.conv' is no dense 1x1 convolution"):
        convert.to_scc(model, (3, 8, 8), layers=["stem.conv"])
    with pytest.raises(ValueError, match="no dense 1x1 convolution after a depthwise one"):
        convert.to_scc(models.build("dscnet", scheme="standard"), (3, 8, 8))
