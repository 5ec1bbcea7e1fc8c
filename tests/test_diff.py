"""diff: the first step and tensor at which two runs part, found by replaying what was not recorded."""

import json
import shutil

import numpy as np
import pytest

from sccengine.cli.main import run
from sccengine.training import Replay, diff
from sccengine.training.checkpoint import CHECKPOINT_FORMAT, read_file, write_file
from sccengine.training.digests import describe, difference, digest, same_bits
from tests.training_run import trainer

EPOCHS = 3  # of 4 steps
STEP = 6


def recorded(folder, **settings):
    """A Replay of a run that keeps every third step."""
    trainer(folder, checkpoint_steps=3, **{"keep": 100, **settings}).fit(EPOCHS)
    return replay_of(folder, **settings)


def replay_of(folder, **settings):
    return Replay(folder, lambda: trainer(**{key: value for key, value in settings.items() if key != "keep"}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diff") / "run"
    recorded(folder)
    return folder


@pytest.fixture
def one(folder):
    return replay_of(folder)


def flip(folder, step=STEP, name="first.weight", index=5):
    """One bit, the least, of one weight in a checkpoint that is otherwise whole."""
    path = folder / "checkpoints" / f"step-{step:08d}.safetensors"
    state = read_file(path, CHECKPOINT_FORMAT)
    state["model"][name].reshape(-1).view(np.uint32)[index] ^= 1
    write_file(path, CHECKPOINT_FORMAT, state)


def test_the_same_run_twice_is_identical_and_nothing_is_replayed(one, tmp_path):
    found = diff(one, recorded(tmp_path / "b"))
    assert found.identical and found.parting is None and found.replayed == 0
    assert found.settings == {} and found.environment == {}


def test_another_seed_parts_before_any_training(one, tmp_path):
    found = diff(one, recorded(tmp_path / "b", seed=4))
    assert (found.parting.step, found.parting.kind, found.parting.name) == (0, "weight", "first.weight")
    assert found.parting.figures["elements"] == found.parting.figures["of"] == 8 * 16
    assert not found.identical and "before any training" in str(found.parting)


@pytest.mark.parametrize("keep", [2, 100])
def test_another_learning_rate_parts_at_the_first_update(one, tmp_path, keep):
    found = diff(one, recorded(tmp_path / "b", lr=0.11, keep=keep))
    assert (found.parting.step, found.parting.kind, found.parting.name) == (1, "weight", "first.weight")
    assert found.parting.replayed and found.replayed == 1
    assert found.settings["training.parameter_groups.0.lr"] == [0.1, 0.11]


def test_a_learning_rate_that_changes_later_parts_there(one, tmp_path):
    def schedule(step):
        return 1.0 if step < 6 else 0.5

    found = diff(one, recorded(tmp_path / "b", schedule=schedule))
    assert (found.parting.step, found.parting.kind) == (7, "weight")
    assert found.same_until == 6 and found.replayed == 1, "the checkpoints of step 6 are the same"


def test_another_batch_size_parts_at_the_first_batch(one, tmp_path):
    found = diff(one, recorded(tmp_path / "b", batch=8))
    assert (found.parting.step, found.parting.kind, found.parting.name) == (1, "batch", "indices")
    assert found.parting.figures["shapes"] == [[16], [8]]


def test_a_flipped_bit_in_a_checkpoint_is_found(one, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "b")
    flip(tmp_path / "b")
    found = diff(one, replay_of(tmp_path / "b"))
    assert (found.parting.step, found.parting.kind, found.parting.name) == (STEP, "weight", "first.weight")
    figures = found.parting.figures
    assert (figures["elements"], figures["of"], figures["ulps"], figures["first"]) == (1, 128, 1, [0, 5])
    (note,) = found.notes
    assert "step-00000006.safetensors of the second run is not what its replay comes to: first.weight" in note


def test_a_run_resumed_from_a_flipped_bit_parts_where_it_was_flipped(one, folder, tmp_path):
    other = tmp_path / "b"
    shutil.copytree(folder, other)
    flip(other)
    for path in (other / "checkpoints").iterdir():
        if int(path.stem[5:]) > STEP:
            path.unlink()
    trainer(other, keep=100).fit(EPOCHS, resume=True)
    found = diff(one, replay_of(other))
    assert (found.parting.step, found.parting.name) == (STEP, "first.weight")
    (other / "checkpoints" / f"step-{STEP:08d}.safetensors").unlink()
    found = diff(one, replay_of(other))
    assert found.parting.step == 8, "of the flip there is no trace before the next checkpoint"


def test_a_resumed_run_is_the_same_run(one, folder, tmp_path):
    other = tmp_path / "b"
    shutil.copytree(folder, other)
    for path in (other / "checkpoints").iterdir():
        if int(path.stem[5:]) > 3:
            path.unlink()
    trainer(other).fit(EPOCHS, resume=True)
    assert diff(one, replay_of(other)).identical


def test_without_replays_the_record_says_between_which_steps(one, tmp_path):
    found = diff(one, recorded(tmp_path / "b", lr=0.11), replay=False)
    assert (found.parting.after, found.parting.step, found.parting.replayed) == (0, 3, False)
    assert "between steps 1 and 3" in str(found.parting) and found.replayed == 0


def test_runs_of_another_version_are_compared_by_their_records(one, tmp_path):
    recorded(tmp_path / "b", lr=0.11)
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    config["environment"]["sccengine"] = "0.0.1"
    (tmp_path / "b" / "config.json").write_text(json.dumps(config))
    found = diff(one, replay_of(tmp_path / "b"))
    assert not found.parting.replayed and found.environment["environment.sccengine"][1] == "0.0.1"
    assert found.notes[-1] == "only what the runs recorded is compared"


def test_replays_by_other_kernels_than_the_runs_do_not_name_a_step(one, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "b")
    flip(tmp_path / "b")
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    config["environment"]["kernels"] = "others"
    (tmp_path / "b" / "config.json").write_text(json.dumps(config))
    found = diff(one, replay_of(tmp_path / "b"))
    assert found.notes[0] == "the run was made with other sources of the kernels than are here (second run)"
    assert (found.parting.after, found.parting.step, found.parting.replayed) == (4, STEP, False)
    assert "they part between steps 5 and 6: weight first.weight" in str(found.parting)


def test_a_run_that_went_on_for_longer_does_not_part(one, folder, tmp_path):
    other = tmp_path / "b"
    shutil.copytree(folder, other)
    trainer(other, keep=100).fit(EPOCHS + 1, resume=True)
    found = diff(one, replay_of(other))
    assert found.parting is None and not found.identical and found.ends == [12, 16]


def test_differences_are_counted_in_representable_numbers():
    a = np.array([1.0, -0.0, 3.0, np.nan], np.float32)
    b = np.array([np.nextafter(np.float32(1), np.float32(2)), 0.0, 3.0, np.nan], np.float32)
    found = difference(a, b)
    assert (found["elements"], found["of"], found["first"], found["ulps"]) == (2, 4, [0], 1)
    assert not same_bits(a, b) and same_bits(a, a.copy()) and digest(a) != digest(b)
    tiny = np.array([np.nextafter(0.0, 1)]), np.array([-np.nextafter(0.0, 1)])
    assert difference(*tiny)["ulps"] == 2
    assert digest(np.zeros(2, np.float32)) != digest(np.zeros(1, np.float64)), "the same bytes"
    assert "int64 (2,) in the first, float32 (3,)" in describe(difference(np.zeros(2, int), np.zeros(3, np.float32)))


# The command line


def train(folder, *arguments):
    settings = ["--width", "0.25", "--device", "cpu", "--batch-size", "128", "--epochs", "2", "--quiet"]
    assert run(["train", "--out", str(folder), *settings, *arguments]) == 0
    return str(folder)


def test_the_command_line(tmp_path, capsys):
    one, same, other = (train(tmp_path / n, *more) for n, more in (("a", []), ("b", []), ("c", ["--lr", "0.05"])))
    assert run(["diff", one, same]) == 0
    assert capsys.readouterr().out == "identical: the same to the bit up to their end, step 22\n"
    assert run(["diff", one, other]) == 1
    out = capsys.readouterr().out
    assert "settings: options.lr is 0.1 in the first, 0.05 in the second" in out
    assert "they part at step 1: weight stem.conv.weight: 72 of 72 elements differ" in out
    assert run(["diff", one, other, "--no-replay", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["parting"]["replayed"] is False and found["parting"]["kind"] in ("weight", "metrics")
    assert run(["diff", one]) == 2
    assert run(["diff", one, str(tmp_path / "none")]) == 2
    assert run(["diff", one, str(tmp_path)]) == 1
    assert run(["diff", one, other, "--device", "abacus"]) == 2
    config = tmp_path / "c" / "config.json"
    config.write_text(config.read_text().replace('"decay"', '"rot"'))
    capsys.readouterr()
    assert run(["diff", one, other]) == 1
    assert "does not describe a run of this version (KeyError('decay'))" in capsys.readouterr().out
