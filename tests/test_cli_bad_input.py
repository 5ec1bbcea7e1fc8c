"""Nonsense on the command line and in the files it reads: one line that names it, and the right exit code."""

import json
import subprocess
import sys

import numpy as np
import pytest

from sccengine.cli.main import run

SHORT = ["--epochs", "1", "--width", "0.25", "--quiet", "--device", "cpu"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "a"
    assert run(["train", "--out", str(out), *SHORT]) == 0
    return out


def _fails(capfd, arguments, code, *words):
    capfd.readouterr()
    assert run([str(argument) for argument in arguments]) == code
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error
    assert all(word in error for word in words), error


def test_no_verb_shows_the_help(capfd):
    assert run([]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("Usage: sccengine") and "Verbs:" in lines


@pytest.mark.parametrize("section", ["model", "data", "options", "environment"])
@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_a_configuration_without_a_section_is_named(trained, tmp_path, capfd, verb, section):
    (tmp_path / "best.safetensors").write_bytes((trained / "best.safetensors").read_bytes())
    config = json.loads((trained / "config.json").read_text())
    del config[section]
    (tmp_path / "config.json").write_text(json.dumps(config))
    np.save(tmp_path / "image.npy", np.zeros((8, 8), np.uint8))
    files = [tmp_path / "image.npy"] if verb == "predict" else []
    _fails(capfd, [verb, tmp_path, *files, "--device", "cpu"], 1, "config.json", section)


@pytest.mark.parametrize("section", ["options", "training", "environment"])
def test_resuming_without_a_section_is_named(trained, tmp_path, capfd, section):
    config = json.loads((trained / "config.json").read_text())
    del config[section]
    (tmp_path / "config.json").write_text(json.dumps(config))
    _fails(capfd, ["train", "--out", tmp_path, "--resume", "--device", "cpu"], 1, "config.json", section)


def test_a_device_of_the_environment_is_not_blamed_on_the_run(trained, capfd, monkeypatch):
    monkeypatch.setenv("SCCENGINE_DEVICE", "toaster")
    _fails(capfd, ["evaluate", trained], 2, "unknown device 'toaster'")


def test_a_damaged_data_file_is_a_failure_and_no_wrong_usage(tmp_path, capfd):
    np.savez(tmp_path / "a.npz", pictures=np.zeros(3))
    dataset = f"npz:{tmp_path / 'a.npz'}"
    _fails(capfd, ["train", "--out", tmp_path / "run", "--dataset", dataset], 1, "a.npz", "pictures")


def test_a_folder_of_another_kind_is_refused_and_left_alone(trained, tmp_path, capfd):
    other = tmp_path / "other"
    other.mkdir()
    (other / "settings.json").write_text("{}")
    _fails(capfd, ["train", "--out", other, *SHORT], 1, f"{other} holds a comparison or an exploration")
    _fails(
        capfd, ["compare", "--out", other, "--quiet", "--device", "cpu"], 1, "settings.json: expected an object with"
    )
    _fails(
        capfd, ["explore", "--out", other, "--device", "cpu"], 1, "does not describe an exploration: it has no space"
    )
    (other / "settings.json").write_text("[1]")
    _fails(capfd, ["explore", "status", other], 1, "settings.json: expected an object, found list")
    assert {path.name for path in other.iterdir()} - {"run.lock"} == {"settings.json"}
    before = sorted(path.name for path in trained.iterdir())
    _fails(capfd, ["compare", "--out", trained, "--quiet", "--device", "cpu"], 2, f"{trained} holds a run")
    _fails(capfd, ["explore", "--out", trained, "--quiet", "--device", "cpu"], 1, f"{trained} holds a run")
    assert sorted(path.name for path in trained.iterdir()) == before


def test_comparison_and_exploration_refuse_each_others_folders(tmp_path, capfd):
    compared, explored = tmp_path / "compared", tmp_path / "explored"
    one = ["--out", compared, "--schemes", "dw+pw", "--seeds", "1", "--rounds", "2"]
    assert run([str(word) for word in ["compare", *one, *SHORT]]) == 0
    assert run(["explore", "--out", str(explored), "--trials", "1", "--widths", "0.25", *SHORT[:2], *SHORT[4:]]) == 0
    for verb in (["explore", "status"], ["explore", "report"], ["explore", "--device", "cpu", "--out"]):
        _fails(capfd, [*verb, compared], 1, f"{compared} holds a comparison: choose another folder for an exploration")
    for resume in ([], ["--resume"]):
        words = f"{explored} holds an exploration: choose another folder for a comparison"
        _fails(capfd, ["compare", *resume, "--out", explored], 1, words)
    (explored / "settings.json").write_text('{"storage": "postgresql://host/lab", "study": "a"}')
    _fails(capfd, ["compare", "--out", explored], 1, "holds an exploration")


def test_options_that_a_run_has_its_own_of_are_refused(trained, tmp_path, capfd):
    for option in (["--groups", "4"], ["--input", "1x8x8"], ["--scheme", "dw+pw"]):
        _fails(
            capfd, ["export", trained, "--out", tmp_path / "x.onnx", *option], 2, f"{option[0]} is for a model by name"
        )


@pytest.mark.parametrize(
    "command",
    [
        ["replay", "{run}", "--step", "1", "--save"],
        ["certify", "{run}", "--save"],
        ["export", "{run}", "--out"],
        ["bench", "relu", "--json"],
        ["tune", "--ship"],
    ],
    ids=lambda command: command[0],
)
def test_a_file_that_cannot_be_written_is_refused_before_the_work(trained, tmp_path, capfd, command):
    command = [word.format(run=trained) for word in command]
    missing = tmp_path / "missing"
    _fails(capfd, [*command, missing / "file"], 2, command[-1], f"cannot be written: there is no folder {missing}")
    _fails(capfd, [*command, tmp_path], 2, command[-1], "is a directory")


def test_training_without_a_standard_output(tmp_path):
    arguments = ["train", "--out", str(tmp_path / "a"), *SHORT[:4], "--device", "cpu"]
    code = f"import sys; sys.stdout = None; from sccengine.cli.main import run; sys.exit(run({arguments!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a" / "best.safetensors").exists()


def test_an_empty_folder_name_is_wrong_usage(capfd):
    _fails(capfd, ["train", "--out", "", *SHORT], 2, "--out", "names no folder")


def test_a_cut_header_of_an_array_is_named(trained, tmp_path, capfd):
    whole = tmp_path / "whole.npy"
    np.save(whole, np.zeros((8, 8), np.uint8))
    cut = tmp_path / "cut.npy"
    for size in (0, 5, 9, 11, 40, whole.stat().st_size - 1):
        cut.write_bytes(whole.read_bytes()[:size])
        _fails(capfd, ["predict", trained, cut, "--device", "cpu"], 1, "cut.npy: not a .npy file of numbers")
    cut.write_bytes(whole.read_bytes().replace(b"(8, 8)}   "[:6], b"(8, (("))
    _fails(capfd, ["predict", trained, cut, "--device", "cpu"], 1, "cut.npy: not a .npy file of numbers")


@pytest.mark.parametrize("seed", ["abc", "-3", "1.5"])
def test_a_seed_of_the_environment_is_named(monkeypatch, seed):
    monkeypatch.setenv("SCCENGINE_SEED", seed)
    done = subprocess.run([sys.executable, "-m", "sccengine", "summary"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"sccengine: SCCENGINE_SEED must be an integer of at least 0, got {seed!r}\n"
