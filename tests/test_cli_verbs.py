"""evaluate, predict, summary and doctor."""

import json

import numpy as np
import pytest

from sccengine import data
from sccengine.cli.main import run
from tests.test_cli_train import trained  # noqa: F401  (a fixture)


def as_json(capsys, arguments):
    assert run(arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_evaluate(trained, capsys):  # noqa: F811
    last = json.loads((trained / "metrics.jsonl").read_text().splitlines()[-1])
    result = as_json(capsys, ["evaluate", str(trained), "--weights", "last", "--device", "cpu", "--json"])
    assert result["accuracy"] == last["test_accuracy"] and result["loss"] == last["test_loss"]
    assert result["images"] == np.sum(result["confusion"]) == 359
    assert run(["evaluate", str(trained), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "accuracy" in out and "taken for" in out and len(out.splitlines()) == 13


def test_predict_arrays_and_images(trained, capsys, tmp_path):  # noqa: F811
    images = pytest.importorskip("PIL.Image", reason="image files need Pillow")
    _, test = data.load("digits")
    np.save(tmp_path / "many.npy", test.images[:3])
    np.save(tmp_path / "one.npy", test.images[0, 0])
    images.fromarray(test.images[0, 0]).save(tmp_path / "one.png")
    images.fromarray(255 - test.images[0, 0]).save(tmp_path / "dark.png")
    base = ["predict", str(trained), "--device", "cpu", "--json"]
    many = as_json(capsys, [*base, str(tmp_path / "many.npy"), "--top", "10"])
    assert len(many) == 3 and many[1]["image"].endswith("many.npy[1]")
    for row in many:
        shares = [entry["probability"] for entry in row["classes"]]
        assert shares == sorted(shares, reverse=True) and abs(sum(shares) - 1) < 1e-9
    one, png = as_json(capsys, [*base, str(tmp_path / "one.npy"), str(tmp_path / "one.png")])
    (dark,) = as_json(capsys, [*base, str(tmp_path / "dark.png"), "--invert"])
    for row in (one, png, dark):
        assert [e["class"] for e in row["classes"]] == [e["class"] for e in many[0]["classes"][:3]]
        np.testing.assert_allclose(row["classes"][0]["probability"], many[0]["classes"][0]["probability"], rtol=1e-5)
    assert run(["predict", str(trained), str(tmp_path / "one.npy"), "--device", "cpu", "--top", "1"]) == 0
    assert capsys.readouterr().out.count("%") == 1


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("shape.npy", np.zeros((1, 9, 8), np.uint8), "1 x 8 x 8"),
        ("none.npy", np.zeros((0, 1, 8, 8), np.uint8), "one or more images"),
        ("float.npy", np.zeros((1, 8, 8)), "uint8"),
        ("object.npy", np.array([{}], object), "not a .npy file of numbers"),
        ("noise.npy", b"noise", "not a .npy file"),
        ("empty.npy", b"", "not a .npy file"),
        ("noise.png", b"noise", "expected an image"),
    ],
)
def test_predict_names_a_wrong_file(trained, capsys, tmp_path, name, content, expected):  # noqa: F811
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        np.save(tmp_path / name, content, allow_pickle=True)
    assert run(["predict", str(trained), str(tmp_path / name), "--device", "cpu"]) == 1
    error = capsys.readouterr().err
    assert name in error and expected in error and error.count("\n") == 1


def test_a_run_without_usable_weights(trained, capsys, tmp_path):  # noqa: F811
    for verb in (["evaluate", str(tmp_path)], ["predict", str(tmp_path), __file__]):
        assert run(verb) == 1
        assert "no run directory" in capsys.readouterr().err
    (tmp_path / "config.json").write_text((trained / "config.json").read_text())
    assert run(["evaluate", str(tmp_path), "--device", "cpu"]) == 1
    assert "no best.safetensors yet" in capsys.readouterr().err
    content = bytearray((trained / "best.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "best.safetensors").write_bytes(content)
    assert run(["evaluate", str(tmp_path), "--device", "cpu"]) == 1
    error = capsys.readouterr().err
    assert "best.safetensors: damaged" in error and error.count("\n") == 1


def test_summary(capsys):
    assert run(["summary"]) == 0
    assert "9,482 parameters, 110,592 MACs" in capsys.readouterr().out
    result = as_json(capsys, ["summary", "--scheme", "dw+pw", "--input", "3,32,32", "--classes", "7", "--json"])
    assert result["input_shape"] == [3, 32, 32] and result["rows"][-1]["output_shape"] == [7]
    assert result["macs"] == sum(row["macs"] for row in result["rows"])


def test_summary_of_a_published_model(capsys):
    assert run(["summary", "--model", "vgg16", "--groups", "4", "--input", "3x32x32"]) == 0
    assert "465,226 parameters, 12,065,792 MACs" in capsys.readouterr().out
    arguments = ["summary", "--model", "resnet18", "--stem", "imagenet", "--input", "3x64x64", "--width", "0.125"]
    rows = {row["name"]: row for row in as_json(capsys, [*arguments, "--json"])["rows"]}
    assert rows["stem.pool"]["output_shape"] == [8, 16, 16]


@pytest.mark.parametrize("verb", ["summary", "train"])
def test_images_too_small_for_a_model_are_a_usage_error_that_leaves_nothing(verb, capsys, tmp_path):
    where = ["--out", str(tmp_path / "run")] if verb == "train" else []
    assert run([verb, "--model", "vgg11", "--width", "0.125", *where]) == 2
    assert "images must be at least 32 x 32, got 8 x 8" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_doctor(capsys):
    assert run(["doctor"]) == 0
    assert "device cpu" in capsys.readouterr().out
    report = {entry["what"]: entry for entry in as_json(capsys, ["doctor", "--json"])}
    assert report["device cpu"]["state"] == "ok" and report["device cuda"]["state"] in ("ok", "missing")
    assert report["CUDA compiler"]["state"] in ("ok", "missing") and report["CUDA kernels on disk"]["state"] == "ok"
    assert report["CPU kernels on disk"]["state"] == "ok"
    optional = {what.split()[0] for what in report if what.endswith(")")}
    assert optional == {"cupy", "PIL", "onnx", "onnxruntime", "optuna", "optuna_dashboard", "psycopg", "IPython"}


def test_doctor_says_that_kernels_cannot_be_kept(capsys, monkeypatch):
    monkeypatch.setattr("sccengine.kernels.cpu.compile.cache_folder", lambda: None)
    report = {entry["what"]: entry for entry in as_json(capsys, ["doctor", "--json"])}
    assert report["CPU kernels on disk"]["state"] == "off"
    assert "see SCCENGINE_CACHE_DIR" in report["CPU kernels on disk"]["detail"]


def test_doctor_reports_a_processor_that_computes_wrongly(capsys, monkeypatch):
    import sccengine.functional as F

    scc = F.scc
    monkeypatch.setattr(F, "scc", lambda *inputs, **settings: scc(*inputs, **{**settings, "overlap": 0.25}))
    assert run(["doctor"]) == 1
    assert "wrong by" in capsys.readouterr().out
