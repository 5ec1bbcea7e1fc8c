"""The command line as a whole: help, lazy imports, one-line errors, exit codes."""

import os
import signal
import subprocess
import sys

import pytest

from sccengine.cli.main import VERBS, run
from sccengine.training import Trainer


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], *([verb, "--help"] for verb in VERBS)])
def test_help_has_examples(arguments, capsys):
    code = run(arguments)
    captured = capsys.readouterr()
    assert code == (0 if arguments else 2)
    if arguments:
        assert "Examples:" in captured.out and captured.err == ""


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("sccengine 0.")


def test_help_loads_neither_numpy_nor_numba():
    program = (
        "import sys; from sccengine.cli.main import run; run(['--help']);"
        "sys.exit(bool({'numpy', 'numba', 'rich', 'matplotlib'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (["tran"], ["tran"]),
        (["train", "--epoch5", "3"], ["--epoch5"]),
        (["train", "--epochs", "0"], ["--epochs", "0"]),
        (["train", "--epochs", "many"], ["--epochs", "many"]),
        (["train", "--epochs", "2.5"], ["--epochs", "'2.5' is not a valid whole number"]),
        (["train", "--lr", "nan"], ["--lr", "nan", "finite"]),
        (["train", "--lr", "-1"], ["--lr", "-1", "above 0"]),
        (["train", "--overlap", "1"], ["--overlap", "below 1"]),
        (["train", "--overlap", "half"], ["--overlap", "half", "number"]),
        (["train", "--groups", "3"], ["3", "32"]),
        (["train", "--scheme", "scc"], ["--scheme", "scc", "dw+scc"]),
        (["train", "--model", "vgg99"], ["--model", "vgg99", "dscnet"]),
        (["train", "--dataset", "imagenet"], ["imagenet", "digits"]),
        (["train", "--device", "gpu"], ["gpu", "cuda"]),
        (["train", "--seed", "-1"], ["--seed", "-1"]),
        (["train", "--resume"], ["--resume", "--out"]),
        (["train", "extra"], ["extra"]),
        (["evaluate"], ["RUN"]),
        (["evaluate", "no/such/run"], ["no/such/run"]),
        (["predict", "."], ["FILES"]),
        (["predict", ".", "no/such.png"], ["no/such.png"]),
        (["summary", "--input", "3x32"], ["--input", "3x32"]),
        (["summary", "--input", "0x8x8"], ["0x8x8"]),
        (["summary", "--groups", "5"], ["5"]),
        (["doctor", "--jsn"], ["--jsn"]),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(arguments, parts, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("sccengine: ") and "Traceback" not in captured.err
    for part in parts:
        assert part in captured.err
    assert list(tmp_path.iterdir()) == []


def test_an_unexpected_error_is_one_line_and_the_traceback_is_there_on_request(monkeypatch, capsys):
    import sccengine.models

    def broken(*args, **settings):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(sccengine.models, "summarize", broken)
    assert run(["summary"]) == 1
    assert capsys.readouterr().err == "sccengine: ZeroDivisionError: a bug\n"
    monkeypatch.setenv("SCCENGINE_DEBUG", "1")
    assert run(["summary"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_outside_a_run_is_130(monkeypatch, capsys):
    import sccengine.models

    def interrupted(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(sccengine.models, "summarize", interrupted)
    assert run(["summary"]) == 130
    assert "interrupted" in capsys.readouterr().err


SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
TRAINING = {
    "train": ["--epochs", "9"],
    "compare": ["--epochs", "9", "--schemes", "dw+pw"],
    "explore": ["--epochs", "9", "--widths", "0.25", "--groups", "2", "--overlaps", "0.5"],
}


def signalled(monkeypatch, number, times, verb, out):
    """Exit code of a verb to which a signal comes, so many times, in the step after the first."""
    step = Trainer._train_step

    def interrupted(self, images, labels):
        step(self, images, labels)
        if self.step == 2:
            for _ in range(times):
                os.kill(os.getpid(), number)

    monkeypatch.setattr(Trainer, "_train_step", interrupted)
    size = [] if verb == "explore" else ["--width", "0.25"]
    return run([verb, "--out", str(out), "--device", "cpu", "--quiet", *TRAINING[verb], *size])


@pytest.mark.parametrize("number, code", SIGNALS)
@pytest.mark.parametrize("verb", TRAINING)
def test_the_exit_code_after_a_signal_is_that_of_shells(monkeypatch, capfd, tmp_path, verb, number, code):
    assert signalled(monkeypatch, number, 1, verb, tmp_path / "a") == code
    error = capfd.readouterr().err
    assert f"stopped by {signal.Signals(number).name} after step 2" in error
    assert f"sccengine {verb} --out {tmp_path / 'a'}" in error
    assert ("finishing the step under way, or first compiling its kernels" in error) == (number == signal.SIGINT)


@pytest.mark.parametrize("number, code", SIGNALS)
def test_a_second_signal_ends_it_at_once_with_the_same_exit_code(monkeypatch, capfd, tmp_path, number, code):
    assert signalled(monkeypatch, number, 2, "train", tmp_path / "a") == code
    error = capfd.readouterr().err
    assert error.endswith("sccengine: interrupted\n") and "stopped by" not in error
    assert not list((tmp_path / "a" / "checkpoints").glob("*2.safetensors"))


def test_python_dash_m_works():
    command = [sys.executable, "-m", "sccengine", "train", "--epochs", "x"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2 and "Traceback" not in result.stderr and "'x'" in result.stderr
