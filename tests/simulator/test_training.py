"""The trainer on a device: captured or not, whenever losses are read, the same bits; broken losses by their step."""

import signal

import numpy as np
import pytest

from sccengine.kernels.cpu import tally as on_cpu
from sccengine.kernels.cuda import tally as in_simulator
from sccengine.training import NonFiniteLossError, TrainingInterrupted
from sccengine.training import tally as tallies
from tests.training_run import assert_same_weights, fit_captured, rows_without_seconds, trainer

DEVICE = "simulator"


def _run(out=None, **settings):
    run = trainer(out, **settings)
    run.model.to(DEVICE)
    return run


def test_captured_and_eager_runs_have_the_same_bits_and_resume_each_other(tmp_path, monkeypatch):
    eager = _run(capture=False)
    eager.fit(3)
    monkeypatch.setattr(tallies, "INTERVAL", 0.0)
    captured = _run(capture=True, out=tmp_path / "whole")
    assert fit_captured(captured, 3)
    assert rows_without_seconds(captured.history) == rows_without_seconds(eager.history)
    assert_same_weights(captured.model.state_dict(), eager.model.state_dict())
    half = _run(out=tmp_path / "half", capture=True)
    _interrupt_after(half, 6)
    with pytest.raises(TrainingInterrupted):
        half.fit(3)
    resumed = _run(out=tmp_path / "half", capture=False)
    resumed.fit(3, resume=True)
    assert rows_without_seconds(resumed.history) == rows_without_seconds(eager.history)
    assert_same_weights(resumed.model.state_dict(), eager.model.state_dict())


def _interrupt_after(run, steps):
    step = run.scheduler.step

    def interrupting():
        step()
        if run.scheduler.current_step == steps:
            run._interruption.requested = signal.SIGINT

    run.scheduler.step = interrupting


def test_a_smaller_last_batch_is_computed_launch_by_launch():
    settings = {"batch": 24, "test": False}
    runs = []
    for capture in (True, False):
        run = _run(capture=capture, **settings)
        run.train_loader.drop_last = False
        run.fit(2)
        runs.append(run)
    assert [row["step"] for row in runs[0].history] == [3, 6]
    assert rows_without_seconds(runs[0].history) == rows_without_seconds(runs[1].history)
    assert_same_weights(runs[0].model.state_dict(), runs[1].model.state_dict())


@pytest.mark.parametrize("capture", [True, False])
def test_a_loss_that_is_not_finite_is_reported_by_its_own_step(tmp_path, capture, monkeypatch):
    monkeypatch.setattr(tallies, "INTERVAL", 1e9)
    run = _run(tmp_path, capture=capture)
    step = run.scheduler.step

    def spoiling():
        step()
        if run.scheduler.current_step == 6:
            run.model.head.weight.array.view(np.ndarray)[0, 0] = np.nan

    run.scheduler.step = spoiling
    with pytest.raises(
        NonFiniteLossError, match=r"the loss became nan at step 7 \(epoch 2\), noticed after step 8"
    ) as e:
        run.fit(3)
    assert e.value.step == 7
    assert run.directory.checkpoints.paths()[0].name == "step-00000004.safetensors"


def test_in_the_simulator_steps_are_captured_on_request_only():
    run = _run(capture="auto")
    run._make_stepper()
    assert not run._stepper._capture


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes, images", [(1, 1), (3, 8), (5, 21)])
def test_the_tally_notes_what_numpy_finds(classes, images, dtype):
    random = np.random.default_rng(0)
    logits = random.integers(0, 3, (classes, images)).astype(dtype)  # many equal ones: the first counts
    logits[random.random(logits.shape) < 0.2] = np.nan
    labels = random.integers(0, classes, images)
    records = []
    for kernels in (on_cpu, in_simulator):
        record = np.zeros(7)
        for loss in (0.1, np.inf, 3.0):
            kernels.append(logits, labels, np.array([loss], dtype), record)
        records.append(record)
    right = int((logits.argmax(axis=0) == labels).sum())
    want = [3, np.dtype(dtype).type(0.1), right, np.inf, right, 3, right]
    for record in records:
        np.testing.assert_array_equal(record, want)
