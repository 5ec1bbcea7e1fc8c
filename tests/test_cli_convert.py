"""``sccengine convert``: a trained dw+pw run becomes a dw+scc one that every other verb understands."""

import json
import os
import signal

import pytest

from sccengine import models
from sccengine.cli.main import run
from sccengine.models import summarize
from sccengine.training import Trainer, load_weights

SMALL = ["--width", "0.25", "--device", "cpu", "--batch-size", "128"]
QUICK = ["--device", "cpu", "--restarts", "1", "--calibrate", "64"]


@pytest.fixture(scope="module")
def pointwise(tmp_path_factory):
    """The folder of a dw+pw run of three epochs."""
    folder = tmp_path_factory.mktemp("convert") / "pw"
    assert run(["train", "--scheme", "dw+pw", "--out", str(folder), "--epochs", "3", "--quiet", *SMALL]) == 0
    return folder


def converted(source, out, *arguments):
    return run(["convert", str(source), "--out", str(out), *QUICK, *arguments])


def printed(capsys, *arguments):
    assert run([*arguments, "--device", "cpu", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def assert_same_file_contents(one, other):
    one, other = load_weights(one)[0], load_weights(other)[0]
    assert list(one) == list(other)
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)


def test_the_record_says_what_the_other_verbs_find(pointwise, tmp_path, capsys):
    out = tmp_path / "scc"
    assert converted(pointwise, out, "--finetune", "2", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record == json.loads((out / "conversion.json").read_text())
    assert (record["from"], record["groups"], record["overlap"]) == (str(pointwise), 2, 0.5)
    assert [layer["name"] for layer in record["layers"]] == [f"blocks.{i}.mix" for i in range(3)]
    assert all(0 < layer["energy"] <= layer["unsorted"] < 1 and 0 < layer["error"] < 1 for layer in record["layers"])
    for column, scheme in enumerate(("dw+pw", "dw+scc")):
        summary = summarize(models.build("dscnet", scheme=scheme, width=0.25, in_channels=1), (1, 8, 8))
        assert [record["parameters"][column], record["macs"][column]] == [summary.params, summary.macs]
    found = printed(capsys, "evaluate", str(pointwise))
    assert record["accuracy"]["original"] == found["accuracy"]
    found = printed(capsys, "evaluate", str(out), "--weights", "last")
    assert record["accuracy"]["fine_tuned"] == found["accuracy"]
    config = json.loads((out / "config.json").read_text())
    assert config["environment"]["converted_from"] == str(pointwise)
    options = config["options"]
    assert (options["lr"], options["batch_size"], options["augment"]) == (0.1, 128, False)
    assert (out / "curves.png").exists() and (out / "confusion.png").exists()


def test_without_fine_tuning_the_folder_holds_the_converted_weights(pointwise, tmp_path, capsys):
    out = tmp_path / "scc"
    assert converted(pointwise, out, "--lr", "0.07", "--augment") == 0
    text = capsys.readouterr().out
    assert "blocks.2.mix" in text and f"sccengine train --out {out} --resume fine-tunes it for 3 epochs" in text
    record = json.loads((out / "conversion.json").read_text())
    for weights in ("best", "last"):
        found = printed(capsys, "evaluate", str(out), "--weights", weights)
        assert found["accuracy"] == record["accuracy"]["converted"]
    assert record["accuracy"]["fine_tuned"] is None
    options = json.loads((out / "config.json").read_text())["options"]
    assert options["lr"] == 0.07 and options["augment"] and options["scheme"] == "dw+scc"


def test_one_group_without_overlap_loses_nothing(pointwise, tmp_path, capsys):
    assert converted(pointwise, tmp_path / "a", "--groups", "1", "--overlap", "0", "--calibrate", "0", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["accuracy"]["converted"] == record["accuracy"]["original"]
    assert [layer["energy"] < 1e-12 for layer in record["layers"]] == [True] * 3
    assert record["calibration_images"] == 0 and all(layer["error"] is None for layer in record["layers"])


def test_resuming_what_was_not_fine_tuned_gives_the_bits_of_fine_tuning(pointwise, tmp_path):
    assert converted(pointwise, tmp_path / "later", "--json") == 0
    assert run(["train", "--out", str(tmp_path / "later"), "--resume", "--quiet", "--device", "cpu"]) == 0
    assert converted(pointwise, tmp_path / "once", "--finetune", "3", "--json") == 0
    assert_same_file_contents(tmp_path / "later" / "last.safetensors", tmp_path / "once" / "last.safetensors")


def test_an_interrupted_fine_tuning_goes_on_to_the_same_bits(pointwise, tmp_path, capsys, monkeypatch):
    assert converted(pointwise, tmp_path / "whole", "--finetune", "2", "--json") == 0
    step = Trainer._train_step

    def interrupted(self, images, labels):
        step(self, images, labels)
        if self.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", interrupted)
        assert converted(pointwise, tmp_path / "cut", "--finetune", "2", "--json") == 130
    captured = capsys.readouterr()
    assert f"sccengine train --out {tmp_path / 'cut'} --resume" in captured.err
    assert json.loads((tmp_path / "cut" / "conversion.json").read_text())["accuracy"]["fine_tuned"] is None
    assert run(["train", "--out", str(tmp_path / "cut"), "--resume", "--quiet", "--device", "cpu"]) == 0
    assert_same_file_contents(tmp_path / "cut" / "last.safetensors", tmp_path / "whole" / "last.safetensors")


def test_a_file_of_weights_gives_what_its_run_gives(pointwise, tmp_path):
    assert converted(pointwise, tmp_path / "run", "--weights", "last", "--json") == 0
    assert converted(pointwise / "last.safetensors", tmp_path / "file", "--width", "0.25", "--json") == 0
    assert_same_file_contents(tmp_path / "run" / "last.safetensors", tmp_path / "file" / "last.safetensors")


def test_the_result_is_exported(pointwise, tmp_path):
    onnx = pytest.importorskip("onnx", reason='ONNX export needs onnx: pip install "sccengine[onnx]"')
    assert converted(pointwise, tmp_path / "scc", "--groups", "4", "--overlap", "0.25") == 0
    assert run(["export", str(tmp_path / "scc"), "--out", str(tmp_path / "scc.onnx")]) == 0
    texts = {entry.key: entry.value for entry in onnx.load(str(tmp_path / "scc.onnx")).metadata_props}
    assert (texts["sccengine.scheme"], texts["sccengine.groups"]) == ("dw+scc", "4")


def test_what_cannot_be_converted_is_said_and_nothing_is_written(pointwise, tmp_path, capsys):
    standard, out = tmp_path / "standard", tmp_path / "out"
    assert run(["train", "--scheme", "standard", "--out", str(standard), "--epochs", "1", "--quiet", *SMALL]) == 0
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes((pointwise / "last.safetensors").read_bytes()[:-100])
    last = str(pointwise / "last.safetensors")
    for source, arguments, code, message in (
        (standard, [], 2, "is a run of scheme standard; only dw+pw has pointwise layers to convert"),
        (pointwise, ["--width", "0.25"], 2, "--width is for a file of weights; a run has its own"),
        (pointwise, ["--groups", "3"], 2, "groups"),
        (tmp_path / "nowhere", [], 2, "is neither a run directory nor a file"),
        (last, ["--weights", "best"], 2, "--weights is for a run"),
        (last, ["--width", "0.5"], 1, "shape"),
        (last, ["--width", "0.25", "--model", "vgg11"], 2, "images must be at least 32 x 32"),
        (damaged, ["--width", "0.25"], 1, "damaged"),
        (tmp_path, [], 1, "is no run directory"),
    ):
        assert converted(source, out, *arguments) == code, (source, arguments)
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
        assert not out.exists()
    before = {path.name: path.stat().st_mtime_ns for path in pointwise.iterdir()}
    assert converted(pointwise, pointwise) == 2
    assert "already holds a run: go on with it by sccengine train" in capsys.readouterr().err
    assert before == {path.name: path.stat().st_mtime_ns for path in pointwise.iterdir()}
