"""ONNX files compute what the engine computes: every model and scheme, every operator, in onnxruntime."""

import json
import sys

import numpy as np
import pytest

import sccengine as scc
import sccengine.functional as F
from sccengine import models, nn
from sccengine.cli.main import run
from sccengine.models.mode import evaluation_mode
from tests.randomised import randomised
from tests.test_cli_train import trained  # noqa: F401  (a fixture)

onnx = pytest.importorskip("onnx", reason='ONNX export needs onnx: pip install "sccengine[onnx]"')
onnxruntime = pytest.importorskip("onnxruntime", reason="exported files run in onnxruntime: pip install onnxruntime")

from sccengine.interop import onnx as interop_onnx  # noqa: E402


def exported(model, path, shape, **settings):
    """(session, proto) of the file written; the engine's own check must have run."""
    error = interop_onnx.export(model, path, shape, **settings)
    assert error is not None and error <= 1e-5
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]), onnx.load(str(path))


def outputs(model, images):
    with evaluation_mode(model):
        return model(scc.Tensor(images)).numpy()


def compare(model, path, shape, batches=(1, 5)):
    session, proto = exported(model, path, shape)
    assert {node.domain for node in proto.graph.node} == {""}, "standard operators only"
    for batch in batches:
        images = np.random.default_rng(batch).standard_normal((batch, *shape)).astype(np.float32)
        (found,) = session.run(None, {"images": images})
        wanted = outputs(model, images)
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
    return proto


@pytest.mark.parametrize("scheme", models.SCHEMES)
@pytest.mark.parametrize("name", models.MODELS)
def test_every_model_and_scheme(name, scheme, tmp_path):
    scc.set_seed(1)
    model = models.build(name, scheme=scheme, groups=4, overlap=0.33, width=0.25, in_channels=3, num_classes=7)
    compare(randomised(model), tmp_path / "model.onnx", (3, 32, 32))


@pytest.mark.parametrize("groups, overlap", [(2, 0.5), (4, 0.33), (8, 0.5)])
@pytest.mark.parametrize("form", ["dense", "grouped"])
@pytest.mark.parametrize("name", models.MODELS)
def test_every_model_in_both_forms(name, form, groups, overlap, tmp_path, monkeypatch):
    possible = {"dense": lambda windows: False, "grouped": lambda windows: windows.out_channels % windows.cycle == 0}
    monkeypatch.setattr(interop_onnx, "_runs_faster_grouped", possible[form])
    model = randomised(models.build(name, groups=groups, overlap=overlap, width=0.125))
    proto = compare(model, tmp_path / "model.onnx", (3, 32, 32), batches=(2,))
    layers = [layer.windows for layer in model.modules() if isinstance(layer, nn.SCC)]
    gathers = sum(node.op_type == "Gather" for node in proto.graph.node)
    assert layers and gathers == 2 * sum(map(possible[form], layers))


@pytest.mark.parametrize("size", [(64, 64), (65, 63)])
@pytest.mark.parametrize("name", models.MODELS)
def test_the_imagenet_stem(name, size, tmp_path):
    model = models.build(name, stem="imagenet", width=0.125, groups=4, overlap=0.33)
    compare(randomised(model), tmp_path / "model.onnx", (3, *size), batches=(2,))


@pytest.mark.parametrize("width", [0.02, 0.55])
@pytest.mark.parametrize("scheme", ["dw+gpw+shuffle", "dw+scc"])
@pytest.mark.parametrize("name", models.MODELS)
def test_uncommon_widths_and_images(name, scheme, width, tmp_path):
    # 0.02: layers of 1, 2, 4 and 8 channels, some narrower than the groups; 0.55: 16, 32, 72 ... channels.
    model = models.build(name, scheme=scheme, groups=4, overlap=0.33, width=width, in_channels=2, num_classes=3)
    compare(randomised(model), tmp_path / "model.onnx", (2, 35, 33), batches=(1, 3))


def test_windows_of_each_layer_by_itself(tmp_path):
    model = models.build("dscnet", groups=[1, 8, 4], overlap=[0, 0.5, 0.33], width=0.5)
    _, proto = exported(randomised(model), tmp_path / "model.onnx", (3, 9, 7))
    (texts,) = (json.loads(entry.value) for entry in proto.metadata_props if entry.key == "sccengine.windows")
    assert [(w["groups"], w["overlap"]) for w in texts.values()] == [(1, "0"), (8, "0.5"), (4, "0.33")]


@pytest.mark.parametrize(
    "channels, filters, groups, overlap, bias, stride, form",
    [
        (16, 16, 2, 0.5, True, 1, "dense"),
        (16, 16, 4, 0.5, True, 1, "grouped"),
        (16, 32, 8, 0.5, False, 2, "grouped"),
        (32, 8, 4, 0.25, True, (1, 2), "dense"),  # many windows, few filters
        (16, 17, 4, 0.5, True, 1, "dense"),  # the windows do not divide the filters
        (8, 24, 8, 0, True, 1, "grouped"),
        (6, 5, 1, 0.5, True, 1, "dense"),
    ],
)
def test_both_forms_of_a_sliding_layer(channels, filters, groups, overlap, bias, stride, form, tmp_path):
    layer = nn.SCC(channels, filters, groups, overlap, bias=bias, stride=stride)
    proto = compare(randomised(layer), tmp_path / "layer.onnx", (channels, 5, 7))
    operators = [node.op_type for node in proto.graph.node]
    assert operators == (["Gather"] * (form == "grouped") + ["Conv"] + ["Gather"] * (form == "grouped") + ["Identity"])


class Every(nn.Module):
    """What no model uses: other paddings and strides, a shuffle, sums, fused activations, a shared weight."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(4, 8, (3, 2), stride=(2, 1), padding=(1, 0), groups=2)
        self.plain = nn.BatchNorm2d(8, affine=False)
        self.depthwise = nn.Conv2d(8, 16, 3, padding=1, groups=8)
        self.pointwise = nn.Conv2d(16, 16, 1, groups=4)
        self.sliding = nn.SCC(16, 16, groups=2)
        self.pools = nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2, 1, 1))
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16 * 4 * 4, 6, bias=False))

    def forward(self, x):
        x = F.relu6(self.plain(self.first(x)))
        x = self.depthwise(F.add(x, F.channel_shuffle(x, 4)))
        x = F.conv2d(x, self.pointwise.weight, relu=True, groups=4)
        for overlap in (0.5, 0.25):
            x = F.add(x, F.scc(x, self.sliding.weight, groups=2, overlap=overlap, relu=True))
        return F.relu(self.head(self.pools(0.7 * x + x)))


def test_every_operator(tmp_path):
    model = randomised(Every())
    compare(model, tmp_path / "every.onnx", (4, 12, 7))
    assert model.training and all(parameter.grad is None for parameter in model.parameters())


def test_metadata(tmp_path):
    model = nn.Sequential({"mix": nn.SCC(8, 8, groups=2, overlap=0.33)})
    _, proto = exported(model, tmp_path / "a.onnx", (8, 2, 2), metadata={"sccengine.scheme": "dw+scc", "note": 3})
    texts = {entry.key: entry.value for entry in proto.metadata_props}
    assert texts["sccengine"] == scc.__version__ and texts["sccengine.scheme"] == "dw+scc" and texts["note"] == "3"
    windows = json.loads(texts["sccengine.windows"])
    assert windows == {"mix": {"groups": 2, "overlap": "0.33", "width": 4, "shift": 3}}
    assert [entry.name for entry in proto.graph.initializer] == ["mix.bias", "mix.weight.dense"]


def test_what_has_no_form_is_named(tmp_path):
    class Squared(scc.Function):
        def forward(self, x):
            return x * x

    class Model(nn.Module):
        def forward(self, x):
            return Squared()(x)

    cases = [
        (Model(), ValueError, "Squared has no ONNX form here; those known are Add, AvgPool2d"),
        (nn.BatchNorm2d(2, track_running_stats=False), ValueError, "no inference form"),
        (nn.Conv2d(2, 2, 1).to(dtype="float64"), ValueError, "weight is float64"),
        (nn.Sequential(), ValueError, "does not depend on its input"),
    ]
    for model, kind, message in cases:
        with pytest.raises(kind, match=message):
            interop_onnx.export(model, tmp_path / "x.onnx", (2, 3, 3))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        ((1, 2, 3, 3), ValueError, r"\(C, H, W\), all at least 1, got \(1, 2, 3, 3\): .* without the batch"),
        ((2, 0, 3), ValueError, r"\(C, H, W\), all at least 1, got \(2, 0, 3\)"),
        (3, TypeError, r"three whole numbers \(C, H, W\), got 3"),
        ("233", TypeError, r"three whole numbers \(C, H, W\), got '233'"),
    ],
)
def test_a_wrong_input_shape_is_named(tmp_path, shape, error, message):
    with pytest.raises(error, match=f"ONNX export: input_shape must be {message}"):
        interop_onnx.export(nn.ReLU(), tmp_path / "x.onnx", shape)


def test_a_model_of_rows_has_an_input_shape_of_one_number(tmp_path):
    compare(nn.Linear(5, 3), tmp_path / "rows.onnx", (5,))


def test_swapped_arguments_are_told_the_order(tmp_path):
    path, model = tmp_path / "x.onnx", nn.ReLU()
    for arguments, kinds in (
        ((path, model, (2, 3, 3)), "PosixPath and ReLU"),
        ((model, (2, 3, 3), path), "ReLU and tuple"),
    ):
        with pytest.raises(TypeError, match=rf"onnx\.export\(model, path, input_shape\) takes .*, got {kinds}"):
            interop_onnx.export(*arguments)


def test_a_wrong_file_is_never_written(tmp_path, monkeypatch):
    monkeypatch.setitem(interop_onnx._CONVERTERS, "ReLU", lambda graph, node, x: graph.node("Neg", [x]))
    with pytest.raises(RuntimeError, match="onnxruntime's outputs differ from the engine's by"):
        interop_onnx.export(nn.ReLU(), tmp_path / "x.onnx", (2, 3, 3))
    assert not list(tmp_path.iterdir())


def test_without_the_packages(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert interop_onnx.export(nn.ReLU(), tmp_path / "x.onnx", (2, 3, 3)) is None
    assert run(["export", "dscnet", "--out", str(tmp_path / "y.onnx")]) == 0
    assert "NOT verified" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"sccengine\[onnx\]"):
        interop_onnx.export(nn.ReLU(), tmp_path / "z.onnx", (2, 3, 3))


def test_the_verb_on_a_run(trained, tmp_path, capsys):  # noqa: F811
    out = tmp_path / "run.onnx"
    assert run(["export", str(trained), "--out", str(out)]) == 0
    assert "verified in onnxruntime" in capsys.readouterr().out
    texts = {entry.key: entry.value for entry in onnx.load(str(out)).metadata_props}
    assert (texts["sccengine.scheme"], texts["sccengine.groups"], texts["sccengine.overlap"]) == ("dw+scc", "2", "0.5")
    assert json.loads(texts["sccengine.classes"])[3] == "3" and len(json.loads(texts["sccengine.mean"])) == 1


def test_the_verb_on_a_model(tmp_path, capsys):
    shape = ["--input", "3x16x16", "--classes", "4", "--width", "0.25", "--groups", "4", "--json"]
    assert run(["export", "mobilenet", *shape, "--out", str(tmp_path / "m.onnx")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["verified"] and result["error"] <= 1e-5
    assert run(["export", "nowhere", "--out", str(tmp_path / "n.onnx")]) == 2
    assert "neither a run directory nor one of dscnet" in capsys.readouterr().err
