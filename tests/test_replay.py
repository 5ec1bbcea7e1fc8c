"""Replays: any step of a run again, to the bit, from checkpoints or from the beginning, without touching the run."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from sccengine import backend, tuning
from sccengine.cli.main import run
from sccengine.training import CheckpointError, Replay, RunDirectoryError, load_weights
from sccengine.training.checkpoint import CHECKPOINT_FORMAT, read_file, write_file
from tests.training_run import dataset, trainer

EPOCHS = 3  # of 4 steps


def begun(folder, **settings):
    """A finished run in `folder`, and for every step its batch's loss and the weights and gradients after it."""
    run, steps = trainer(folder, **settings), []
    real = run.optimizer.step

    def step():
        gradients = {name: p.grad.numpy().copy() for name, p in run.model.named_parameters()}
        real()
        steps.append({"gradients": gradients, "weights": run.model.state_dict()})

    run.optimizer.step = step
    run.fit(EPOCHS)
    return run, steps


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded") / "run"
    return folder, *begun(folder, checkpoint_steps=3, keep=100)


def contents(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("step", range(1, 13))
@pytest.mark.parametrize("from_beginning", [False, True])
def test_every_step_is_the_one_that_was_taken(recorded, step, from_beginning):
    folder, _, steps = recorded
    before = contents(folder)
    replay = Replay(folder, trainer)
    if from_beginning:
        replay.checkpoints = {}
    found = replay.observe(step)
    assert replay.origin == (0 if from_beginning else max(s for s in (0, 3, 4, 6, 8, 9) if s < step))
    for name in ("gradients", "weights"):
        for key, array in steps[step - 1][name].items():
            assert getattr(found, name)[key].tobytes() == array.tobytes(), (name, key)
    assert replay.confirm()["agrees"]
    assert contents(folder) == before


def test_the_batch_is_the_loaders(recorded):
    folder, run, _ = recorded
    found = Replay(folder, trainer).observe(7)
    assert (found.epoch, found.batch) == (2, 3)
    loader = run.train_loader
    loader.rewind(1)
    labels = [labels for _, labels in loader][2]
    assert found.labels.tolist() == labels.tolist() == dataset().labels[found.indices].tolist()


def test_losses_and_norms_are_those_of_the_arrays(recorded):
    folder, run, _ = recorded
    replay = Replay(folder, trainer)
    steps = [replay.observe(step) for step in range(5, 9)]
    assert sum(16 * step.loss for step in steps) / 64 == pytest.approx(run.history[1]["train_loss"], rel=1e-12)
    row = next(row for row in steps[0].rows() if row["name"] == "head.weight")
    assert row["norm"] == pytest.approx(np.linalg.norm(steps[0].weights["head.weight"]), rel=1e-6)
    assert row["update_norm"] == pytest.approx(
        np.linalg.norm(steps[0].weights["head.weight"] - steps[0].before["head.weight"]), rel=1e-5
    )
    assert [layer for layer, _ in steps[0].activations] == ["flat", "first", "act", "drop", "head"]


def test_step_0_is_the_state_before_the_first(recorded):
    folder, _, _ = recorded
    found = Replay(folder, trainer).observe(0)
    assert found.loss is None and not found.gradients
    backend.set_seed(3)
    assert {k: v.tobytes() for k, v in found.weights.items()} == {
        k: v.tobytes() for k, v in trainer().model.state_dict().items()
    }


def test_the_process_keeps_its_own_random_numbers_and_choices(recorded):
    backend.set_seed(77)
    before, chosen = backend.random_state(), tuning.state("cpu")
    Replay(recorded[0], trainer).observe(6)
    assert backend.random_state() == before and tuning.state("cpu") == chosen


def test_a_record_that_is_not_what_follows_is_noticed(recorded, tmp_path):
    folder = copy(recorded[0], tmp_path)
    path = folder / "checkpoints" / "step-00000006.safetensors"
    state = read_file(path, CHECKPOINT_FORMAT)
    state["model"]["head.bias"].view(np.uint32)[2] ^= 1
    write_file(path, CHECKPOINT_FORMAT, state)
    replay = Replay(folder, trainer)
    replay.observe(5)
    agreement = replay.confirm()
    assert not agreement["agrees"] and agreement["step"] == 6
    assert agreement["differs"].startswith("head.bias: 1 of 4 elements differ") and "(1 ulp)" in agreement["differs"]


def test_metrics_are_compared_where_there_is_no_checkpoint(recorded, tmp_path):
    folder = copy(recorded[0], tmp_path)
    for path in (folder / "checkpoints").iterdir():
        path.unlink()
    replay = Replay(folder, trainer)
    replay.observe(2)
    assert replay.confirm() == {"step": 4, "with": ["metrics.jsonl"], "agrees": True, "differs": None}
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows[1]["test_loss"] = np.nextafter(rows[1]["test_loss"], 1)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    replay = Replay(folder, trainer)
    replay.observe(7)
    assert replay.confirm()["differs"].startswith("test_loss of epoch 2")


def test_a_damaged_checkpoint_is_passed_over(recorded, tmp_path):
    folder = copy(recorded[0], tmp_path)
    (folder / "checkpoints" / "step-00000006.safetensors").write_bytes(b"short")
    replay = Replay(folder, trainer)
    with pytest.warns(UserWarning, match="step-00000006.*passed over"):
        found = replay.observe(8)
    assert replay.origin == 4
    assert found.weights["head.bias"].tobytes() == recorded[2][7]["weights"]["head.bias"].tobytes()


def test_weights_that_no_seed_gives_are_refused_at_the_beginning(tmp_path):
    run = trainer(tmp_path / "run")
    run.model.load_state_dict({name: array + 1 for name, array in run.model.state_dict().items()})
    run.fit(EPOCHS)
    with pytest.raises(RunDirectoryError, match="earliest step that can be replayed is 5"):
        Replay(tmp_path / "run", trainer).observe(2)
    replay = Replay(tmp_path / "run", trainer)
    replay.observe(5)
    assert replay.confirm()["agrees"]


def test_what_cannot_be_replayed_says_why(recorded, tmp_path):
    with pytest.raises(ValueError, match="up to step 12, there is no step 13"):
        Replay(recorded[0], trainer).observe(13)
    with pytest.raises(ValueError, match="step must be at least 0, got -1"):
        Replay(recorded[0], trainer).observe(-1)
    with pytest.raises(RunDirectoryError, match="no run directory"):
        Replay(tmp_path)
    with pytest.raises(RunDirectoryError, match="has no options: not begun by sccengine train"):
        Replay(recorded[0])


def test_a_run_of_another_version_says_so(recorded, tmp_path):
    folder = copy(recorded[0], tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["environment"]["sccengine"] = "0.0.1"
    (folder / "config.json").write_text(json.dumps(config))
    (caveat,) = Replay(folder, trainer).caveats
    assert "made by sccengine 0.0.1, this is" in caveat


def test_a_checkpoint_without_tuning_is_resumed_with_a_warning_and_one_without_weights_is_named(recorded, tmp_path):
    folder = copy(recorded[0], tmp_path)
    (path,) = (folder / "checkpoints").glob("*12.safetensors")
    state = read_file(path, CHECKPOINT_FORMAT)
    del state["tuning"]
    write_file(path, CHECKPOINT_FORMAT, state)
    with pytest.warns(UserWarning, match="did not keep the variants"):
        assert trainer(folder, keep=100).fit(EPOCHS, resume=True)[-1]["step"] == 12
    del state["optimizer"]
    write_file(path, CHECKPOINT_FORMAT, state)
    with pytest.raises(CheckpointError, match="has no optimizer"):
        trainer(folder, keep=100).fit(EPOCHS, resume=True)


# The command line, on a run of ``sccengine train``


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """2 epochs of 11 steps."""
    folder = tmp_path_factory.mktemp("digits") / "run"
    arguments = ["--width", "0.25", "--device", "cpu", "--batch-size", "128", "--checkpoint-steps", "4", "--keep", "2"]
    assert run(["train", "--out", str(folder), "--epochs", "2", "--quiet", *arguments]) == 0
    return folder


def test_a_step_is_printed_and_saved(digits, tmp_path, capsys):
    file = tmp_path / "step.safetensors"
    assert run(["replay", str(digits), "--step", "14", "--save", str(file)]) == 0
    out = capsys.readouterr().out
    assert "step 14 (epoch 2, batch 3), from the run's beginning" in out and "(128 in all)" in out
    assert "confirmed: followed to checkpoints/step-00000020.safetensors (step 20), the same to the bit" in out
    arrays, state = load_weights(file)
    assert arrays["gradients.blocks.0.mix.weight"].shape == arrays["weights.blocks.0.mix.weight"].shape == (8, 4)
    assert arrays["batch.indices"].shape == (128,) and state["step"] == 14
    assert [row["layer"] for row in state["activations"]][0] == "stem.conv"


def test_the_last_step_is_what_the_run_ended_with(digits, tmp_path, capsys):
    file = tmp_path / "step.safetensors"
    assert run(["replay", str(digits), "--step", "22", "--save", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["from_step"] == 20 and found["confirmed"]["with"][-1] == "metrics.jsonl"
    assert float.fromhex(found["loss_bits"]) == found["loss"] and len(found["indices"]) == found["images"] == 128
    saved = load_file(file)
    for name, array in load_file(digits / "last.safetensors").items():
        assert saved[f"weights.{name}"].tobytes() == array.tobytes()


def test_steps_and_folders_that_are_not_there(digits, tmp_path, capsys):
    assert run(["replay", str(digits), "--step", "23"]) == 2
    assert "recorded up to step 22" in capsys.readouterr().err
    assert run(["replay", str(digits)]) == 2
    assert run(["replay", str(tmp_path / "none"), "--step", "1"]) == 2
    assert run(["replay", str(tmp_path), "--step", "1"]) == 1
    assert "no run directory" in capsys.readouterr().err


def copy(folder, to):
    import shutil

    return shutil.copytree(folder, to / "copy")
