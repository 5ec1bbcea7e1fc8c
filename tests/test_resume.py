"""A run that is killed at any moment and resumed ends with the bits of one that never was."""

import json
import random
import shutil
import signal
import subprocess
import sys

import pytest

from sccengine.training import CheckpointError
from tests.resume_job import EPOCHS, job
from tests.training_run import assert_same_weights, rows_without_seconds

KILLS = 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that was never interrupted, and its trainer."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, job(folder)


def assert_same_outcome(folder, whole):
    reference, run = whole
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows_without_seconds(rows) == rows_without_seconds(run.history)
    for name in ("last.safetensors", "best.safetensors", "confusion.json"):
        assert (folder / name).read_bytes() == (reference / name).read_bytes(), name
    assert (folder / "curves.png").exists() and (folder / "confusion.png").exists()


@pytest.mark.slow
def test_killed_again_and_again(tmp_path, whole):
    folder, moments = tmp_path / "run", random.Random(20)
    kills = 0
    while kills < KILLS:
        process = subprocess.Popen([sys.executable, "-m", "tests.resume_job", str(folder)])
        # Half the kills fall at any time after the start, half soon after a checkpoint was begun.
        try:
            _wait_for_more(process, folder, moments.randrange(1, 4))
            process.wait(moments.uniform(0, 0.05))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        assert process.returncode == 0
        break
    subprocess.run([sys.executable, "-m", "tests.resume_job", str(folder)], check=True)
    assert kills >= 2
    assert_same_outcome(folder, whole)


def _wait_for_more(process, folder, checkpoints):
    """Return when `checkpoints` more checkpoints have been written, or the process has ended."""
    seen = {path.name for path in folder.glob("checkpoints/step-*")}
    for _ in range(6000):
        now = {path.name for path in folder.glob("checkpoints/step-*")}
        if len(now - seen) >= checkpoints or process.poll() is not None:
            return
        try:
            process.wait(0.01)
        except subprocess.TimeoutExpired:
            pass
    raise AssertionError("the run makes no progress")


@pytest.mark.parametrize("left", [0, 3, 4, 7, 46, 47])
def test_resumed_from_any_checkpoint(tmp_path, whole, left):
    """As if killed right after the checkpoint of step `left`: later files may be there, later checkpoints are not."""
    folder = tmp_path / "run"
    job_keeping_all(folder)
    for path in (folder / "checkpoints").iterdir():
        if int(path.stem.removeprefix("step-")) > max(left, 0):
            path.unlink()
    job(folder)
    assert_same_outcome(folder, whole)


def job_keeping_all(folder):
    return job(folder, keep=1000)


def test_torn_and_lost_files_are_made_anew(tmp_path, whole):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 13, "st')
    for name in ("best.safetensors", "last.safetensors", "curves.png", "confusion.png", "confusion.json"):
        (folder / name).unlink()
    job(folder)
    assert_same_outcome(folder, whole)


def test_lost_metrics_come_back_from_the_checkpoint(tmp_path, whole):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    (folder / "metrics.jsonl").unlink()
    sorted((folder / "checkpoints").iterdir())[-1].unlink()
    job(folder)
    assert_same_outcome(folder, whole)


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_used(tmp_path, whole):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=f"{newest.name}: damaged.*going back to step-"):
        job(folder)
    assert_same_outcome(folder, whole)


def test_no_usable_checkpoint_is_an_error_that_changes_nothing(tmp_path, whole):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    for path in (folder / "checkpoints").iterdir():
        path.write_bytes(b"")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "run.lock"}
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        job(folder)
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "run.lock"}
    assert before == after
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(CheckpointError, match="has metrics but no checkpoint"):
        job(folder)


def test_killed_before_the_first_checkpoint(tmp_path, whole):
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(whole[0] / "config.json", folder)
    job(folder)
    assert_same_outcome(folder, whole)


def test_resuming_a_finished_run_trains_no_further(whole, capsys):
    folder, run = whole
    again = job(folder, progress="plain")
    assert f"finished already, after {EPOCHS} epochs" in capsys.readouterr().out
    assert len(again.history) == EPOCHS
    assert_same_weights(again.model.state_dict(), run.model.state_dict())
