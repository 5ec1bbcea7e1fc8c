"""``sccengine explore``: what it prints, refuses, and leaves when it is interrupted."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest

from sccengine.cli.main import run
from sccengine.exploration import Study

SPACE = ["--widths", "0.25", "--groups", "1,2,4", "--overlaps", "0,0.5", "--batch-size", "256", "--device", "cpu"]
QUICK = [*SPACE, "--sampler", "random", "--epochs", "2"]


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    out = tmp_path_factory.mktemp("explored") / "study"
    assert run(["explore", "--out", str(out), *QUICK, "--trials", "2", "--quiet"]) == 0
    return out


def test_it_says_what_it_does_and_what_to_do_next(tmp_path, capsys):
    assert run(["explore", "--out", str(tmp_path), *QUICK, "--trials", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "searching 5 designs of dscnet on digits by random: 2 trials of 2 epochs for accuracy, params"
    assert re.fullmatch(
        r"\[1/2\] 0000 dscnet x0.25 dw\+scc \(cg \d; co [\d.]+\): [\d,]+ parameters, [\d.]+%, finished: on the front",
        lines[2],
    )
    assert "2 finished" in lines and lines[-1] == f"next: sccengine explore report {tmp_path}"
    assert any(line.startswith("the most accurate again: sccengine train --model dscnet") for line in lines)


def test_the_same_command_goes_on_and_takes_more_trials(tmp_path, capsys):
    assert run(["explore", "--out", str(tmp_path), *QUICK, "--trials", "1", "--quiet"]) == 0
    assert run(["explore", "--out", str(tmp_path), "--device", "cpu", "--trials", "2"]) == 0
    out = capsys.readouterr().out
    assert (
        out.startswith("going on with 5 designs") and "[2/2] 0001 " in out and "0000 dscnet" not in out.split("\n\n")[0]
    )
    assert len(Study(tmp_path).trials()) == 2


@pytest.mark.parametrize(
    "option, text",
    [
        (["--epochs", "3"], "--epochs 3 contradicts the study in"),
        (["--widths", "0.5"], "--widths [0.5] contradicts the study in"),
        (["--sampler", "grid"], "--sampler grid contradicts the study in"),
        (["--lr", "0.3"], "--lr 0.3 contradicts the study in"),
        (["--objectives", "accuracy,macs"], "--objectives ['accuracy', 'macs'] contradicts"),
    ],
)
def test_an_option_that_differs_from_the_study_is_refused(explored, capsys, option, text):
    assert run(["explore", "--out", str(explored), "--device", "cpu", *option]) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["--limit", "params"], "'params' is not of the form params=10000; costs are params, macs"),
        (["--limit", "accuracy=1"], "costs are params, macs"),
        (["--limit", "macs=10"], "limits: 'macs' is no cost among the objectives (params)"),
        (["--time", "soon"], "'soon' is no time; write 90, 90s, 10m or 2h"),
        (["--time", "0"], "'0' is no time"),
        (["--objectives", "params"], "objectives must be accuracy and at least one cost"),
        (
            ["--groups", "3"],
            "groups: none of 3 divides the input channels of all mixing layers of dscnet at",
        ),
        (["--study", "x"], "--study names a study in a database, which --storage URL says"),
        (["status"], "which study? DIR, or --storage URL --study NAME"),
        (["--storage", "sqlite:///x.db"], "a study's database is a postgresql:// URL, got sqlite://..."),
        (["status", "--storage", "x.db", "--study", "x"], "a postgresql:// URL, got a text without ://"),
    ],
)
def test_wrong_usage(capsys, arguments, text, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "psycopg", None)  # which none of these gets as far as to need
    assert run(["explore", *arguments]) == 2
    assert text in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_dry_run_writes_nothing(tmp_path, capsys):
    assert run(["explore", "--out", str(tmp_path / "x"), *QUICK, "--dry-run"]) == 0
    assert "searching 5 designs" in capsys.readouterr().out and not (tmp_path / "x").exists()


def test_status(explored, capsys):
    assert run(["explore", "status", str(explored)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^\* +000[01] +finished +[\d.]+%", text, re.MULTILINE) and "2 finished" in text
    assert run(["explore", "status", str(explored), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["counts"] == {"finished": 2} and status["plan"]["epochs"] == 2
    assert [trial["number"] for trial in status["trials"]] == [0, 1]
    assert set(status["front"]) == {trial.number for trial in Study(explored).front()}


def test_report(explored, capsys):
    assert run(["explore", "report", str(explored)]) == 0
    assert (explored / "report.html").exists() and str(explored / "report.html") in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["status", "report", "dashboard"])
def test_a_folder_without_a_study(tmp_path, capsys, verb):
    assert run(["explore", verb, str(tmp_path / "nothing")]) == 1
    assert "nothing holds no exploration: sccengine explore begins one" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()


def test_a_failing_design_is_exit_code_1(tmp_path, capsys):
    assert run(["explore", "--out", str(tmp_path), *QUICK, "--trials", "1", "--lr", "1e30"]) == 1
    captured = capsys.readouterr()
    assert "failed: NonFiniteLossError" in captured.out
    assert "1 trials failed, first 0000 (NonFiniteLossError" in captured.err


def test_a_database_that_is_not_there(capsys, tmp_path):
    pytest.importorskip("psycopg")
    url = "postgresql://me:secret@localhost:1/lab"
    assert run(["explore", "--storage", url, "--study", "x", "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "cannot reach postgresql://me@localhost:1/lab" in error and "secret" not in error


def test_killed_in_the_middle_of_a_trial_it_goes_on_to_the_same_weights(tmp_path):
    arguments = [*SPACE, "--sampler", "random", "--epochs", "8", "--trials", "2", "--quiet"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sccengine", "explore", "--out", str(tmp_path / "cut"), *arguments]
    )
    metrics = tmp_path / "cut" / "trials" / "0001" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (metrics.exists() and metrics.read_text().count("\n") >= 2):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [trial.state for trial in Study(tmp_path / "cut").trials()] == ["finished", "running"]
    for name in ("cut", "whole"):
        assert run(["explore", "--out", str(tmp_path / name), *arguments]) == 0
    cut, whole = (Study(tmp_path / name) for name in ("cut", "whole"))
    assert [trial.curves for trial in cut.trials()] == [trial.curves for trial in whole.trials()]
    for trial in whole.trials():
        weights = [study.folder(trial) / "last.safetensors" for study in (cut, whole)]
        assert weights[0].read_bytes() == weights[1].read_bytes()


def test_ctrl_c_in_a_team_leaves_waiting_trials_and_says_how_to_go_on(tmp_path):
    out = tmp_path / "a b"
    command = [sys.executable, "-m", "sccengine", "explore", "--out", str(out), *SPACE, "--epochs", "3000"]
    process = subprocess.Popen([*command, "--workers", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list(out.glob("trials/*/metrics.jsonl"))) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert f"sccengine explore --out '{out}'" in error and "Traceback" not in error
    assert error.count("sccengine: stopped by SIGINT after step") == 1 and "SIGTERM" not in error
    trials = Study(out).trials()
    assert [(trial.state, trial.worker) for trial in trials] == [("waiting", None)] * 2
    assert all(trial.epochs > 0 for trial in trials) and not list((out / "workers").iterdir())


def test_sigterm_between_trials_leaves_no_worker_behind(tmp_path):
    arguments = ["explore", "--out", str(tmp_path), *SPACE, "--epochs", "3000", "--workers", "2"]
    script = f"""
import os, signal, subprocess, sys
from sccengine.cli.main import run
from sccengine.exploration import Study
begun = []
class Process(subprocess.Popen):
    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        begun.append(self)
subprocess.Popen = Process
Study.run = lambda self, **how: os.kill(os.getpid(), signal.SIGTERM)
code = run({arguments!r})
print("ended", [process.returncode is not None for process in begun])
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 143, done.stderr
    assert done.stdout.endswith("ended [True]\n")
    assert f"sccengine: interrupted; everything is saved: sccengine explore --out {tmp_path}" in done.stderr
