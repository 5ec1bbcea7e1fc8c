"""``sccengine train`` on a narrow network: a run from start to prediction, resuming, signals, broken runs."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from sccengine.cli.main import run
from sccengine.training import load_weights

SMALL = ["--width", "0.25", "--device", "cpu", "--batch-size", "128"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of two epochs."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert run(["train", "--out", str(folder), "--epochs", "2", "--quiet", *SMALL]) == 0
    return folder


def rows(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def test_it_says_what_it_does_and_how_it_went(tmp_path, capsys):
    assert run(["train", "--out", str(tmp_path / "a"), "--epochs", "1", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "dscnet with dw+scc (groups 2, overlap 0.5)" in out and "359 held out" in out
    assert "1/1" in out and f"sccengine evaluate {tmp_path / 'a'}" in out


def test_quiet_is_quiet(tmp_path, capsys):
    assert run(["train", "--out", str(tmp_path / "a"), "--epochs", "1", "--quiet", *SMALL]) == 0
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_without_out_it_makes_a_dated_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["train", "--epochs", "1", "--quiet", *SMALL]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    time.strptime(folder.name, "%Y%m%d-%H%M%S")
    assert len(rows(folder)) == 1


def test_argument_over_environment_over_default(tmp_path, monkeypatch):
    def seed(name, *arguments):
        assert run(["train", "--out", str(tmp_path / name), "--epochs", "1", "--quiet", *SMALL, *arguments]) == 0
        return json.loads((tmp_path / name / "config.json").read_text())["options"]["seed"]

    assert seed("default") == 0
    monkeypatch.setenv("SCCENGINE_SEED", "7")
    assert seed("environment") == 7
    assert seed("argument", "--seed", "8") == 8
    assert rows(tmp_path / "default") != rows(tmp_path / "environment")


def test_an_existing_run_is_not_overwritten(trained, capsys):
    before = rows(trained)
    assert run(["train", "--out", str(trained), "--epochs", "1", *SMALL]) == 2
    assert "already holds a run: add --resume" in capsys.readouterr().err
    assert rows(trained) == before


def test_resuming_takes_the_options_of_the_run_and_refuses_others(trained, capsys, monkeypatch):
    monkeypatch.setenv("SCCENGINE_SEED", "99")
    assert run(["train", "--out", str(trained), "--resume", "--device", "cpu"]) == 0
    assert "finished already, after 2 epochs" in capsys.readouterr().out
    assert run(["train", "--out", str(trained), "--resume", "--lr", "0.25"]) == 2
    error = capsys.readouterr().err
    assert "--lr 0.25 contradicts" in error and "begun with 0.1" in error and error.count("\n") == 1
    assert run(["train", "--out", str(trained), "--resume", "--epochs", "3", "--device", "cpu"]) == 1
    assert "does not depend on its length" in capsys.readouterr().err


def test_a_constant_schedule_can_be_lengthened(tmp_path):
    def train(name, epochs, *more):
        options = ["--epochs", str(epochs), "--schedule", "constant", "--quiet", *SMALL, *more]
        assert run(["train", "--out", str(tmp_path / name), *options]) == 0
        return load_weights(tmp_path / name / "last.safetensors")[0]

    whole = train("whole", 3)
    train("two", 1)
    parts = train("two", 3, "--resume")
    assert all(whole[key].tobytes() == parts[key].tobytes() for key in whole)
    assert rows(tmp_path / "whole") == rows(tmp_path / "two")


def test_resuming_nothing_starts_the_run_and_says_so(tmp_path, capsys):
    assert run(["train", "--out", str(tmp_path / "new"), "--resume", "--epochs", "1", *SMALL]) == 0
    assert "holds no run yet: starting from the beginning" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", "{", '{"training": {}}'])
def test_a_damaged_config_is_named(tmp_path, capsys, content):
    (tmp_path / "config.json").write_text(content)
    for arguments in (["train", "--resume", "--out", str(tmp_path)], ["evaluate", str(tmp_path)]):
        assert run(arguments) == 1
        error = capsys.readouterr().err
        assert "config.json" in error and error.count("\n") == 1


def test_ctrl_c_saves_says_how_to_go_on_and_is_130(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "sccengine", "train", "--epochs", "4", "--schedule", "constant", *SMALL]
    process = subprocess.Popen(
        [*command, "--out", str(folder / "a"), "--epochs", "2000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if "3/2000" in line:
            break
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert f"sccengine train --out {folder / 'a'} --resume" in error and "Traceback" not in error
    done = len(rows(folder / "a"))
    assert done >= 3
    subprocess.run([*command, "--out", str(folder / "b"), "--quiet"], check=True)
    assert rows(folder / "b")[:done] == rows(folder / "a")[:4]


@pytest.mark.slow
def test_sigkill_and_resume_end_with_the_same_bits(tmp_path):
    command = [sys.executable, "-m", "sccengine", "train", "--quiet", *SMALL]
    command += ["--epochs", "6", "--checkpoint-steps", "4"]
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True)
    cut = [*command, "--out", str(tmp_path / "cut"), "--resume"]
    for wait in (3, 8, 20):
        process = subprocess.Popen(cut, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            steps = [int(p.stem[5:]) for p in (tmp_path / "cut").glob("checkpoints/*.safetensors")]
            if max(steps, default=0) >= wait:
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(cut, check=True)
    for name in ("last.safetensors", "best.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def test_a_loss_that_blows_up_is_one_line_and_code_1(tmp_path, capsys):
    with np.errstate(all="ignore"):
        code = run(["train", "--out", str(tmp_path / "a"), "--lr", "1e30", "--epochs", "2", "--quiet", *SMALL])
    error = capsys.readouterr().err
    assert code == 1 and "at step 2 (epoch 1): the first layer with a non-finite output is" in error
    assert error.count("\n") == 1


def test_a_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(["train", "--out", str(tmp_path / "file" / "run"), "--epochs", "1", *SMALL]) == 1
    assert "cannot make the folder" in capsys.readouterr().err


def test_a_data_set_that_is_not_there(tmp_path, capsys):
    assert run(["train", "--out", str(tmp_path / "a"), "--dataset", "cifar10", "--data-dir", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "cifar10" in error and "not installed" in error and error.count("\n") == 1
    assert not (tmp_path / "a").exists()
