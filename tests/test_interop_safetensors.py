"""Weights to and from PyTorch, to the bit, in each form that sliding-channel weights can take."""

import json

import numpy as np
import pytest

import sccengine as scc
from sccengine import models, nn
from sccengine.interop import safetensors
from sccengine.models.mode import evaluation_mode
from sccengine.training import CheckpointError
from tests.test_models_match_pytorch import OVERLAP, build_twin, peers  # noqa: F401  (peers is a fixture)
from tests.test_training_matches_pytorch import pytorch  # noqa: F401  (a fixture)

# A quarter: narrower stems are scaled differently by the PyTorch twins.
SETTINGS = {"width": 0.25, "num_classes": 7, "in_channels": 2, "stem": "cifar"}


def build(name, scheme, groups=4):
    return models.build(name, scheme=scheme, groups=groups, overlap=OVERLAP, **SETTINGS)


def assert_same_state(one, other):
    assert list(one) == list(other)
    for name, value in one.items():
        assert value.dtype == other[name].dtype and value.shape == other[name].shape, name
        assert value.tobytes() == other[name].tobytes(), name


@pytest.mark.parametrize("scheme", models.SCHEMES)
@pytest.mark.parametrize("name", models.MODELS)
def test_round_trip_through_a_pytorch_model(peers, tmp_path, name, scheme):  # noqa: F811
    torch_files = pytest.importorskip("safetensors.torch", reason="needs safetensors and PyTorch")
    scc.set_seed(3)
    model, twin = build(name, scheme), build_twin(peers, name, scheme, 4, **SETTINGS)
    safetensors.save(tmp_path / "ours.safetensors", model)
    twin.load_state_dict(torch_files.load_file(str(tmp_path / "ours.safetensors")), strict=True)
    assert_same_state(model.state_dict(), {key: value.numpy() for key, value in twin.state_dict().items()})

    torch_files.save_file(twin.state_dict(), str(tmp_path / "theirs.safetensors"))
    scc.set_seed(4)
    back = build(name, scheme)
    assert safetensors.load(tmp_path / "theirs.safetensors", back) == {}
    assert_same_state(model.state_dict(), back.state_dict())

    images = np.random.default_rng(0).standard_normal((2, 2, 32, 32)).astype(np.float32)
    twin.eval()
    with evaluation_mode(model), peers.torch.no_grad():
        wanted = twin(peers.torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(model(images).numpy(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scheme", ["dense", "dense+mask"])
def test_dense_weights_in_an_ordinary_pytorch_convolution(tmp_path, scheme):
    torch = pytest.importorskip("torch", reason='needs PyTorch: pip install "sccengine[test-torch]"')
    from safetensors.torch import load_file

    layer = nn.SCC(12, 10, groups=3, overlap=0.4)
    safetensors.save(tmp_path / "a.safetensors", nn.Sequential({"mix": layer}), scc=scheme, metadata={"note": "é"})
    state = {key.removeprefix("mix."): value for key, value in load_file(str(tmp_path / "a.safetensors")).items()}
    mask = state.pop("weight_mask", None)
    assert (mask is not None) == (scheme == "dense+mask")
    if mask is not None:
        np.testing.assert_array_equal(mask[:, :, 0, 0].numpy(), layer.windows.mask())
    conv = torch.nn.Conv2d(12, 10, 1)
    conv.load_state_dict(state)
    x = np.random.default_rng(0).standard_normal((2, 12, 3, 3)).astype(np.float32)
    np.testing.assert_allclose(layer(x).numpy(), conv(torch.from_numpy(x)).detach().numpy(), rtol=1e-5, atol=1e-6)

    back = nn.Sequential({"mix": nn.SCC(12, 10, groups=3, overlap=0.4)})
    metadata = safetensors.load(tmp_path / "a.safetensors", back)
    assert metadata == {"note": "é", "scc": scheme, "windows": {"mix": {"groups": 3, "overlap": "0.4"}}}
    assert json.dumps(metadata)
    assert_same_state(layer.state_dict(), back[0].state_dict())


@pytest.mark.parametrize("form", safetensors.FORMS)
@pytest.mark.parametrize("name", models.MODELS)
def test_every_form_is_read_back_to_the_bit(tmp_path, name, form):
    scc.set_seed(3)
    model = build(name, "dw+scc")
    safetensors.save(tmp_path / "a.safetensors", model, scc=form)
    scc.set_seed(4)
    back = build(name, "dw+scc")
    safetensors.load(tmp_path / "a.safetensors", back)
    assert_same_state(model.state_dict(), back.state_dict())


def test_training_state_goes_along(peers, tmp_path):  # noqa: F811
    torch_files = pytest.importorskip("safetensors.torch", reason="needs safetensors and PyTorch")
    model, twin = build("dscnet", "dw+scc"), build_twin(peers, "dscnet", "dw+scc", 4, **SETTINGS)
    images = np.random.default_rng(0).standard_normal((4, 2, 16, 16)).astype(np.float32)
    twin(peers.torch.from_numpy(images))  # statistics that are neither 0 nor 1, and a count of batches
    torch_files.save_file(twin.state_dict(), str(tmp_path / "theirs.safetensors"))
    safetensors.load(tmp_path / "theirs.safetensors", model)
    state = model.state_dict()
    assert state["stem.norm.num_batches_tracked"] == 1 and np.abs(state["stem.norm.running_mean"]).max() > 0
    assert_same_state(state, {key: value.numpy() for key, value in twin.state_dict().items()})
    safetensors.save(tmp_path / "ours.safetensors", model)
    again = torch_files.load_file(str(tmp_path / "ours.safetensors"))
    assert all(peers.torch.equal(value, again[key]) for key, value in twin.state_dict().items())


def test_weights_of_a_layer_by_itself():
    layer, other = nn.SCC(8, 6), nn.SCC(8, 6)
    safetensors.load_state_dict(other, safetensors.state_dict(layer, "dense+mask"))
    assert_same_state(layer.state_dict(), other.state_dict())


def test_non_contiguous_arrays_are_written_by_value(tmp_path):
    from sccengine.training import save_weights

    weight = np.arange(12, dtype=np.float32).reshape(2, 6).T[::2]
    save_weights(tmp_path / "a.safetensors", {"weight": weight, "bias": np.arange(6, dtype=np.float32)[::-2]})
    layer = nn.Linear(2, 3)
    safetensors.load(tmp_path / "a.safetensors", layer)
    np.testing.assert_array_equal(layer.weight.numpy(), weight)
    np.testing.assert_array_equal(layer.bias.numpy(), [5, 3, 1])


def test_what_does_not_fit(tmp_path):
    layer = nn.SCC(8, 6)
    dense = safetensors.state_dict(layer, "dense")
    dense["weight"][0, 7] = 0.25
    with pytest.raises(
        ValueError, match="weight: 1 weights lie outside the layer's windows, the largest 0.25: project"
    ):
        safetensors.load_state_dict(layer, dense)
    with pytest.raises(RuntimeError, match=r"must have shape \(6, 8, 1, 1\), got \(6, 8, 3, 3\)"):
        safetensors.load_state_dict(layer, {"weight": np.zeros((6, 8, 3, 3)), "bias": np.zeros(6)})
    with pytest.raises(RuntimeError, match="missing: bias"):
        safetensors.load_state_dict(layer, {"weight": layer.weight.numpy()})
    with pytest.raises(ValueError, match="scc must be one of 'taps', 'dense'"):
        safetensors.state_dict(layer, "sparse")
    with pytest.raises(CheckpointError, match="no such file"):
        safetensors.load(tmp_path / "none.safetensors", layer)


@pytest.mark.parametrize("verb", ["save", "load"])
def test_swapped_arguments_are_told_the_order(tmp_path, verb):
    with pytest.raises(
        TypeError, match=rf"safetensors\.{verb}\(path, model\) takes a path and a Module, got ReLU and str"
    ):
        getattr(safetensors, verb)(nn.ReLU(), str(tmp_path / "a"))
