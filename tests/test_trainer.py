"""The Trainer in one process: learning, records, early stopping, signals, broken numbers, refusals."""

import json
import os
import signal
import time

import numpy as np
import pytest

from sccengine import backend, nn
from sccengine.optim import schedules
from sccengine.training import (
    CheckpointError,
    NonFiniteLossError,
    RunDirectoryError,
    TrainingInterrupted,
    load_weights,
    read_history,
)
from sccengine.training.evaluation import log_softmax
from sccengine.training.progress import STYLES, make_progress
from tests.training_run import CLASSES, assert_same_weights, dataset, model, rows_without_seconds, trainer


def test_it_learns_and_writes_nothing_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = trainer()
    history = run.fit(40)
    assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]
    assert run.evaluate().accuracy == history[-1]["test_accuracy"] > 0.7
    assert list(tmp_path.iterdir()) == []


def test_the_same_seed_gives_the_same_bits():
    one = trainer()
    one.fit(2)
    other = trainer()
    assert rows_without_seconds(one.history) == rows_without_seconds(other.fit(2))
    assert_same_weights(one.model.state_dict(), other.model.state_dict())
    assert rows_without_seconds(trainer(seed=4).fit(2)) != rows_without_seconds(one.history)


def test_a_run_directory_holds_what_it_says(tmp_path):
    run = trainer(tmp_path / "deep" / "run", config={"note": "x"})
    run.fit(3)
    folder = tmp_path / "deep" / "run"
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        "config.json metrics.jsonl checkpoints last.safetensors best.safetensors "
        "curves.png confusion.png confusion.json run.lock".split()
    )
    assert read_history(folder / "metrics.jsonl").rows == run.history.rows
    assert [row["step"] for row in run.history] == [4, 8, 12]
    assert_same_weights(load_weights(folder / "last.safetensors")[0], _sorted(run.model.state_dict()))
    weights, extra = load_weights(folder / "best.safetensors")
    assert extra["epoch"] == run.history.best()["epoch"]
    confusion = json.loads((folder / "confusion.json").read_text())
    run.load_best()
    assert confusion["matrix"] == run.evaluate().confusion.tolist() and confusion["epoch"] == extra["epoch"]
    config = json.loads((folder / "config.json").read_text())
    assert config["note"] == "x" and config["training"]["epochs"] == 3


def _sorted(weights):
    return dict(sorted(weights.items()))


def test_evaluation_agrees_with_a_plain_computation():
    run = trainer()
    run.fit(1)
    result = run.evaluate()
    images = dataset(40, 1)
    probabilities = run.predict(images.images)
    assert probabilities.shape == (40, CLASSES)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    predicted = probabilities.argmax(axis=1)
    assert result.accuracy == (predicted == images.labels).mean() and result.images == 40
    np.testing.assert_allclose(result.loss, -np.log(probabilities[range(40), images.labels]).mean(), rtol=1e-6)
    for true in range(CLASSES):
        for guess in range(CLASSES):
            assert result.confusion[true, guess] == ((images.labels == true) & (predicted == guess)).sum()


def test_huge_logits_do_not_overflow():
    np.testing.assert_allclose(log_softmax(np.array([[1e4, 0.0]], np.float32)), [[0, -1e4]])


def test_evaluation_changes_neither_mode_nor_state():
    run = trainer()
    run.fit(1)
    run.model.train()
    before, random = run.model.state_dict(), backend.random_state()
    run.evaluate()
    assert_same_weights(run.model.state_dict(), before)
    assert run.model.training and backend.random_state() == random


def test_fit_again_goes_on_where_it_was():
    once = trainer()
    once.fit(4)
    twice = trainer()
    twice.fit(1)
    twice.fit(4)
    assert rows_without_seconds(once.history) == rows_without_seconds(twice.history)
    assert_same_weights(once.model.state_dict(), twice.model.state_dict())


def test_a_run_that_was_begun_only_starts_from_the_weights_that_it_was_given(tmp_path):
    begun = trainer(tmp_path / "a", seed=3)
    given = {name: value + 0.25 for name, value in begun.model.state_dict().items()}
    begun.model.load_state_dict(given)
    begun.begin(2)
    assert begun.step == 0 and not (tmp_path / "a" / "metrics.jsonl").exists()
    resumed = trainer(tmp_path / "a", seed=3)
    resumed.fit(2, resume=True)
    begun = trainer(seed=3)
    begun.model.load_state_dict(given)
    begun.fit(2)
    assert_same_weights(resumed.model.state_dict(), begun.model.state_dict())
    with pytest.raises(RunDirectoryError, match="already holds a run"):
        trainer(tmp_path / "a").begin(2)
    with pytest.raises(RuntimeError, match="begin: this trainer has no run directory"):
        trainer().begin(2)


def test_a_loader_that_was_peeked_into_starts_at_the_beginning():
    peeked = trainer()
    next(iter(peeked.train_loader))
    peeked.fit(1)
    assert rows_without_seconds(peeked.history) == rows_without_seconds(trainer().fit(1))


def test_early_stopping(tmp_path):
    run = trainer(tmp_path, lr=1e-12, patience=2)
    history = run.fit(50)
    best = history.best()["epoch"]
    assert len(history) == best + 2 < 50 and run.finished == "patience"
    again = trainer(tmp_path, lr=1e-12, patience=2)
    assert len(again.fit(50, resume=True)) == len(history)


def test_whoever_watches_may_end_a_run(tmp_path):
    seen = []

    def watch(history):
        seen.append(len(history))
        return len(history) == 3

    run = trainer(tmp_path)
    assert len(run.fit(5, watch=watch)) == 3 and seen == [1, 2, 3] and run.finished == "watch"
    again = trainer(tmp_path)
    assert len(again.fit(5, resume=True)) == 3
    assert (tmp_path / "curves.png").exists()
    seen.clear()
    assert len(trainer().fit(2, watch=watch)) == 2 and seen == [1]


def test_without_a_test_set():
    run = trainer(test=False)
    row = run.fit(1)[-1]
    assert row["test_loss"] is None and row["test_accuracy"] is None and run.best is None
    with pytest.raises(ValueError, match="no test_loader"):
        run.evaluate()
    with pytest.raises(RuntimeError, match="no epoch has been evaluated"):
        run.load_best()
    with pytest.raises(ValueError, match="patience needs a test_loader"):
        trainer(test=False, patience=3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_finishes_the_step_saves_and_can_be_resumed(tmp_path, number):
    whole = trainer()
    whole.fit(3)
    run = trainer(tmp_path)
    previous = signal.getsignal(number)
    _call_after_steps(run, 6, lambda: os.kill(os.getpid(), number))
    with pytest.raises(TrainingInterrupted, match=f"{signal.Signals(number).name} after step 6 .epoch 2") as caught:
        run.fit(3)
    assert caught.value.signal == number
    assert signal.getsignal(number) is previous
    assert (tmp_path / "checkpoints" / "step-00000006.safetensors").exists()
    again = trainer(tmp_path, seed=3)
    again.fit(3, resume=True)
    assert rows_without_seconds(again.history) == rows_without_seconds(whole.history)
    assert_same_weights(again.model.state_dict(), whole.model.state_dict())


def test_a_signal_without_a_directory_can_be_gone_on_from_in_memory():
    run = trainer()
    _call_after_steps(run, 6, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(TrainingInterrupted, match=r"fit\(3\) goes on"):
        run.fit(3)
    run.fit(3)
    assert rows_without_seconds(run.history) == rows_without_seconds(trainer().fit(3))


def test_a_signal_during_the_evaluation_keeps_the_epoch(tmp_path):
    whole = trainer()
    whole.fit(2)
    run = trainer(tmp_path)
    handle = run.model.register_forward_hook(
        lambda module, inputs, output: None if module.training else os.kill(os.getpid(), signal.SIGINT)
    )
    with pytest.raises(TrainingInterrupted):
        run.fit(2)
    handle.remove()
    assert run.step == 4 and len(run.history) == 0
    again = trainer(tmp_path)
    again.fit(2, resume=True)
    assert rows_without_seconds(again.history) == rows_without_seconds(whole.history)


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    run = trainer(tmp_path)

    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)

    _call_after_steps(run, 2, twice)
    with pytest.raises(KeyboardInterrupt) as caught:
        run.fit(3)
    assert not isinstance(caught.value, TrainingInterrupted)


def _call_after_steps(run, steps, action):
    """Call `action` right after optimizer step number `steps`."""
    step = run.scheduler.step

    def counting():
        step()
        if run.scheduler.current_step == steps:
            action()

    run.scheduler.step = counting


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_names_step_and_layer(tmp_path, value):
    run = trainer(tmp_path)

    def spoil():
        run.model.first.weight.data[2, 3] = value

    _call_after_steps(run, 5, spoil)
    with np.errstate(all="ignore"), pytest.raises(NonFiniteLossError) as caught:
        run.fit(3)
    message = str(caught.value)
    assert caught.value.step == 6 and caught.value.layer == "first"
    assert "step 6 (epoch 2)" in message and "first (Linear)" in message and "its weight is not finite" in message
    assert "step-00000004.safetensors" in message


def test_a_layer_that_breaks_by_itself_is_told_from_broken_weights():
    run = trainer()
    run.model.first.weight.data[...] = 3e38
    with np.errstate(all="ignore"), pytest.raises(NonFiniteLossError) as caught:
        run.fit(1)
    assert caught.value.layer == "first" and "its input and parameters are finite" in str(caught.value)


def test_no_checkpoint_is_made_of_broken_weights(tmp_path):
    run = trainer(tmp_path, checkpoint_steps=1)

    def spoil():
        run.model.head.bias.data[0] = np.nan

    _call_after_steps(run, 3, spoil)
    with pytest.raises(NonFiniteLossError, match="head.bias is no longer finite after step 3"):
        run.fit(1)
    assert run.directory.checkpoints.paths()[0].name == "step-00000002.safetensors"


def test_a_second_process_is_refused_and_a_dead_ones_lock_is_not(tmp_path):
    (tmp_path / "run.lock").write_text("process 999999 on elsewhere\n")
    run, other = trainer(tmp_path), trainer(tmp_path)
    seen = []

    def meanwhile():
        with pytest.raises(RunDirectoryError, match=f"in use by process {os.getpid()}"):
            other.fit(1)
        seen.append(True)

    _call_after_steps(run, 1, meanwhile)
    run.fit(1)
    assert seen


def test_an_existing_run_is_not_overwritten(tmp_path):
    trainer(tmp_path).fit(1)
    with pytest.raises(RunDirectoryError, match="already holds a run"):
        trainer(tmp_path).fit(1)


def test_contradictions_name_both_values(tmp_path):
    trainer(tmp_path).fit(1)
    with pytest.raises(RunDirectoryError, match=r"parameter_groups.0.lr is 0.1 in .*config.json and 0.2 now"):
        trainer(tmp_path, lr=0.2).fit(1, resume=True)
    with pytest.raises(RunDirectoryError, match="batch_size is 16 in .* and 8 now"):
        trainer(tmp_path, batch=8).fit(1, resume=True)
    with pytest.raises(RunDirectoryError, match="note is 'not set' in .* and 1 now"):
        trainer(tmp_path, config={"note": 1}).fit(1, resume=True)


def test_a_run_can_be_lengthened_under_a_schedule_that_does_not_depend_on_its_length(tmp_path):
    whole = trainer(schedule=schedules.step(every=3))
    whole.fit(4)
    trainer(tmp_path, schedule=schedules.step(every=3)).fit(2)
    longer = trainer(tmp_path, schedule=schedules.step(every=3))
    longer.fit(4, resume=True)
    assert rows_without_seconds(longer.history) == rows_without_seconds(whole.history)
    assert json.loads((tmp_path / "config.json").read_text())["training"]["epochs"] == 4
    with pytest.raises(RunDirectoryError, match="planned for 4 epochs, which cannot become 3"):
        trainer(tmp_path, schedule=schedules.step(every=3)).fit(3, resume=True)


def test_epochs_are_counted_in_all():
    run = trainer()
    run.fit(2)
    with pytest.raises(ValueError, match=r"planned for 2 epochs, which cannot become 1: .* done before \(2\) too"):
        run.fit(1)
    assert len(run.fit(3)) == 3


def test_a_cosine_cannot_be_lengthened(tmp_path):
    trainer(tmp_path, schedule=schedules.cosine(8)).fit(2)
    with pytest.raises(RunDirectoryError, match="the schedule for 4 epochs gives .*does not depend on its length"):
        trainer(tmp_path, schedule=schedules.cosine(16)).fit(4, resume=True)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="cannot make the folder .*file"):
        trainer(tmp_path / "file" / "run").fit(1)


def test_a_full_disk_is_a_clear_error_and_the_run_can_be_resumed(tmp_path, monkeypatch):
    whole = trainer()
    whole.fit(3)
    run = trainer(tmp_path)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        _call_after_steps(run, 6, lambda: patch.setattr("os.fsync", full))
        with pytest.raises((CheckpointError, OSError), match="cannot write .*No space left on device"):
            run.fit(3)
    again = trainer(tmp_path)
    again.fit(3, resume=True)
    assert rows_without_seconds(again.history) == rows_without_seconds(whole.history)
    assert_same_weights(again.model.state_dict(), whole.model.state_dict())


@pytest.mark.parametrize("epochs", [2.0, True, None])
def test_epochs_must_be_a_whole_number(epochs):
    with pytest.raises(TypeError, match="fit: epochs must be a whole number, got"):
        trainer().fit(epochs)


@pytest.mark.parametrize("epochs", [0, -1])
def test_there_is_an_epoch_at_least(epochs):
    with pytest.raises(ValueError, match="fit: epochs must be at least 1, got"):
        trainer().fit(epochs)


def test_progress_styles(capsys):
    trainer(progress="plain").fit(2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[1].split()[0] == "1/2"
    trainer(progress="terminal").fit(2)
    assert "2/2" in capsys.readouterr().out
    trainer(progress="quiet").fit(1)
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="progress must be one of 'auto'"):
        make_progress("loud")
    assert "auto" in STYLES


def test_a_model_of_another_shape_is_refused(tmp_path):
    trainer(tmp_path).fit(1)
    other = trainer(tmp_path)
    other.model.head = nn.Linear(8, CLASSES + 1)
    with pytest.raises(RuntimeError, match="head"):
        other.fit(1, resume=True)
    assert model().head.weight.shape == (CLASSES, 8)
