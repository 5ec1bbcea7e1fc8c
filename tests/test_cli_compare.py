"""``sccengine compare``: what it prints, refuses and survives."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from sccengine.cli.main import run
from sccengine.training.history import read_history

SMALL = ["--schemes", "dw+pw,dw+scc", "--seeds", "2", "--width", "0.25", "--batch-size", "256", "--device", "cpu"]


def kept(folder):
    """What must not depend on how often the comparison was cut short."""
    files = {path.relative_to(folder): path.read_bytes() for path in folder.glob("cells/*/*.safetensors")}
    for path in folder.glob("cells/*/metrics.jsonl"):
        files[path.relative_to(folder)] = [
            {key: value for key, value in row.items() if key != "seconds"} for row in read_history(path)
        ]
    outcome = json.loads((folder / "compare.json").read_text())
    return files, outcome["cells"], outcome["settings"]


def test_killed_in_the_middle_of_a_cell_it_goes_on_to_the_same_files(tmp_path, capsys):
    arguments = [*SMALL, "--epochs", "6", "--rounds", "2", "--quiet"]
    command = [sys.executable, "-m", "sccengine", "compare", "--out", str(tmp_path / "cut"), *arguments]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        # The second cell, which no outcome knows of yet.
        if any(path.read_text().count("\n") > 1 for path in tmp_path.glob("cut/cells/*scc*seed0/metrics.jsonl")):
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "cut" / "compare.json").exists()
    resumed = ["--resume", "--device", "cpu", "--rounds", "2", "--quiet"]
    assert run(["compare", "--out", str(tmp_path / "cut"), *resumed]) == 0
    assert run(["compare", "--out", str(tmp_path / "whole"), *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    assert kept(tmp_path / "cut") == kept(tmp_path / "whole")


def test_ctrl_c_leaves_an_outcome_says_how_to_go_on_and_is_130(tmp_path):
    command = [sys.executable, "-m", "sccengine", "compare", "--out", str(tmp_path / "a"), *SMALL, "--epochs", "3000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(tmp_path.glob("a/cells/*/metrics.jsonl")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert f"sccengine compare --out {tmp_path / 'a'} --resume" in error and "Traceback" not in error
    states = [cell["status"] for cell in json.loads((tmp_path / "a" / "compare.json").read_text())["cells"]]
    assert states == ["unfinished", "not begun", "not begun", "not begun"]
    assert "dw+pw, seed 0: unfinished" in (tmp_path / "a" / "compare.md").read_text()


def test_a_dry_run_lists_the_cells_with_exact_counts_and_writes_nothing(tmp_path, capsys):
    assert run(["compare", "--out", str(tmp_path / "a"), "--dry-run", "--groups", "2,4", "--seeds", "0,7"]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1 + 2 * (2 + 3 * 2) + 1
    assert "dry run: 16 runs of 60 epochs; nothing was trained or written" in out
    assert run(["summary", "--groups", "4"]) == 0
    counts = capsys.readouterr().out.splitlines()[-1]
    (line,) = [line for line in out.splitlines() if "dw+scc-cg4-co0.5-digits-seed7" in line]
    _, params, macs = line.split()
    assert f"{params} parameters, {macs} MACs an image" in counts
    assert list(tmp_path.iterdir()) == []


def test_a_failure_is_said_and_is_code_1(tmp_path, capsys):
    arguments = ["--schemes", "dw+pw", "--seeds", "1", "--lr", "1e30", "--epochs", "2", "--rounds", "2"]
    with np.errstate(all="ignore"):
        code = run(["compare", "--out", str(tmp_path / "a"), *SMALL, *arguments])
    captured = capsys.readouterr()
    assert code == 1 and "1 of 1 runs failed" in captured.err
    assert "[1/1] dw+pw, seed 0: failed: NonFiniteLossError" in captured.out and "| 0 (1 failed) |" in captured.out


def test_an_existing_comparison_is_resumed_only_as_it_was_begun(tmp_path, capsys):
    (tmp_path / "settings.json").write_text(
        json.dumps({"options": {"lr": 0.1, "dataset": "digits"}, "epochs": 3, "variants": [], "seeds": [0]})
    )
    assert run(["compare", "--out", str(tmp_path)]) == 2
    assert "already holds a comparison: add --resume" in capsys.readouterr().err
    for option, value, begun in (("--lr", "0.25", "0.1"), ("--epochs", "4", "3")):
        assert run(["compare", "--out", str(tmp_path), "--resume", option, value]) == 2
        error = capsys.readouterr().err
        assert f"{option} {value} contradicts" in error and f"begun with {begun}" in error and error.count("\n") == 1


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_damaged_settings_are_named(tmp_path, capsys, content):
    (tmp_path / "settings.json").write_text(content)
    assert run(["compare", "--out", str(tmp_path), "--resume"]) == 1
    error = capsys.readouterr().err
    assert "settings.json" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--schemes", "dw+pw,dense"], "'dense' is not one of"),
        (["--groups", "2,x"], "'x' is not a valid whole number"),
        (["--overlap", "0.5,1"], "1 must be below 1"),
        (["--seeds", "0"], "0 is not in the range"),
        (["--seeds", "1,-2"], "-2 is not in the range"),
        (["--groups", "3"], "groups"),
        (["--model", "vgg11"], "images must be at least 32 x 32"),
        (["--dataset", "digit"], "unknown data set 'digit'"),
    ],
)
def test_wrong_usage_is_one_line_and_leaves_nothing(tmp_path, capsys, arguments, words):
    assert run(["compare", "--out", str(tmp_path / "a"), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "a").exists()
