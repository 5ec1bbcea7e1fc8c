"""A study from its plan to its front: with real training of small networks, and what its record promises."""

import json
import re
import shlex

import numpy as np
import pytest

from sccengine.cli.main import run as run_command
from sccengine.exploration import Plan, Space, Study, explore
from sccengine.training import RunDirectoryError, load_weights, read_history
from sccengine.training.job import RECIPE
from tests.exploration_worker import cost, train

SMALL = Space(widths=(0.25,), groups=(1, 2, 4), overlaps=(0.0, 0.5))
SETTINGS = {"sampler": "random", "trials": 3, "epochs": 2, "seed": 5, "batch_size": 256, "device": "cpu"}
FAKE = Plan(SMALL, sampler="grid", epochs=3, early=False)


def weights(folder):
    return {name: array.tobytes() for name, array in load_weights(folder / "last.safetensors")[0].items()}


def test_trials_are_ordinary_runs_that_their_commands_repeat_to_the_bit(tmp_path):
    seen = []
    study = explore(SMALL, tmp_path / "study", on_trial=seen.append, **SETTINGS)
    trials = study.trials()
    assert [trial.state for trial in trials] == ["finished"] * 3
    # Begun, one epoch, ended.
    assert [(trial.number, trial.state, trial.epochs) for trial in seen] == [
        (number, *what) for number in range(3) for what in (("running", 0), ("running", 1), ("finished", 2))
    ]
    trial = trials[1]
    history = read_history(study.folder(trial) / "metrics.jsonl")
    assert trial.curves == (tuple(history["test_accuracy"]),) and trial.values["accuracy"] == trial.curves[0][-1]
    words = shlex.split(study.plan.command(trial.design))
    assert run_command([*words[1:], "--out", str(tmp_path / "again"), "--device", "cpu", "--quiet"]) == 0
    assert weights(tmp_path / "again") == weights(study.folder(trial))


def test_a_study_cut_short_goes_on_to_what_a_whole_one_gives(tmp_path):
    whole = explore(SMALL, tmp_path / "whole", **SETTINGS).trials()

    def cut(trial):
        if (trial.number, trial.epochs) == (1, 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explore(SMALL, tmp_path / "cut", on_trial=cut, **SETTINGS)
    assert [trial.state for trial in Study(tmp_path / "cut").trials()] == ["finished", "waiting"]
    study = explore(SMALL, tmp_path / "cut", **SETTINGS)
    same = [("seconds", 0.0), ("worker", None)]
    assert [trial.changed(**dict(same)) for trial in study.trials()] == [trial.changed(**dict(same)) for trial in whole]
    for trial in whole:
        assert weights(study.folder(trial)) == weights(tmp_path / "whole" / "trials" / f"{trial.number:04}")


def test_a_design_that_diverges_is_recorded_and_the_others_go_on(tmp_path):
    study = explore(SMALL, tmp_path, **{**SETTINGS, "trials": 2, "optimizer": "sgd", "lr": 1e30})
    trials = study.trials()
    assert [trial.state for trial in trials] == ["failed"] * 2
    assert all(trial.error.startswith("NonFiniteLossError: ") for trial in trials)
    assert study.front() == []


def test_the_plan_of_a_study_stays_but_for_the_number_of_trials(tmp_path):
    study = Study(tmp_path)
    assert not study.exists()
    with pytest.raises(RunDirectoryError, match="holds no exploration: sccengine explore begins one"):
        study.plan  # noqa: B018
    plan = Plan(SMALL, sampler="grid", trials=2, epochs=3, options=dict(RECIPE))
    study.begin(plan)
    assert Study(tmp_path).plan == plan
    study.run(train=train, cost=cost)
    more = Plan(SMALL, sampler="grid", trials=4, epochs=3, options=dict(RECIPE))
    again = Study(tmp_path)
    again.begin(more)
    again.run(train=train, cost=cost)
    assert [trial.state for trial in again.trials()] == ["finished"] * 4
    with pytest.raises(RunDirectoryError, match=re.escape("epochs is 3 in")):
        Study(tmp_path).begin(Plan(SMALL, sampler="grid", trials=4, epochs=4, options=dict(RECIPE)))


def test_no_budget_is_the_whole_space_and_no_time_is_nothing_new(tmp_path):
    study = Study(tmp_path)
    study.begin(FAKE)
    study.run(train=train, cost=cost, seconds=0)
    assert study.trials() == []
    study.run(train=train, cost=cost)
    assert len(study.trials()) == SMALL.size


def test_rejected_designs_are_recorded_and_cost_no_trial(tmp_path):
    study = Study(tmp_path)
    study.begin(Plan(SMALL, sampler="grid", trials=3, epochs=2, limits={"params": 100}))
    seen = []
    study.run(train=train, cost=cost, on_trial=seen.append)
    states = [trial.state for trial in study.trials()]
    # Width 0.25 costs 250, 125 and 63 with 1, 2 and 4 groups.
    assert states == ["rejected"] * 3 + ["finished"] * 2
    assert not any((study.folder(trial)).exists() for trial in study.trials() if trial.state == "rejected")
    assert sum(trial.state == "rejected" for trial in seen) == 3


def test_stopped_trials_are_recorded_with_what_they_had(tmp_path):
    study = Study(tmp_path)
    study.begin(Plan(Space(widths=(1.0,), groups=(1,)), sampler="grid", epochs=3))

    def stop(plan, trial, folder, watch):
        return {"test_accuracy": [0.25, 0.5], "seconds": [1.0, 1.0]}

    study.run(train=stop, cost=cost)
    (trial,) = study.trials()
    assert (trial.state, trial.epochs, trial.values["accuracy"]) == ("stopped", 2, 0.5)
    assert trial.reason == "ended early" and study.front() == []


def test_a_journal_cut_short_goes_on_and_a_damaged_one_is_named(tmp_path):
    study = Study(tmp_path)
    study.begin(FAKE)
    study.run(train=train, cost=cost)
    whole = study.trials()
    journal = tmp_path / "journal.jsonl"
    lines = journal.read_bytes()
    journal.write_bytes(lines[:-20])
    cut = Study(tmp_path)
    assert [trial.state for trial in cut.trials()] == ["finished"] * (len(whole) - 1) + ["running"]
    cut.run(train=train, cost=cost)
    assert [trial.values for trial in cut.trials()] == [trial.values for trial in whole]
    for line in journal.read_text().splitlines():
        json.loads(line)
    journal.write_bytes(b'{"number": 0}\n' + lines)
    with pytest.raises(RunDirectoryError, match=re.escape(f"{journal}, line 1: no record of a trial (expected")):
        Study(tmp_path).trials()


@pytest.mark.parametrize("text", ["{", "[]", '{"space": {}, "colour": 1}', '{"space": {"models": []}}'])
def test_damaged_settings_are_named(tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(RunDirectoryError, match=re.escape(str(tmp_path))):
        Study(tmp_path).plan  # noqa: B018


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"sampler": "bayes"}, "unknown sampler 'bayes'; choose from grid"),
        ({"trials": 0}, "trials must be a whole number of at least 1, got 0"),
        ({"epochs": 1.5}, "epochs must be a whole number"),
        ({"ceiling": 1.5}, "ceiling must be a fraction above 0 and at most 1"),
        ({"objectives": ("accuracy",)}, "objectives must be accuracy and at least one cost"),
        ({"objectives": ("accuracy", "speed")}, "unknown objective 'speed'; choose from accuracy, params"),
        ({"limits": {"macs": 3}}, "limits: 'macs' is no cost among the objectives (params)"),
    ],
)
def test_bad_plans(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Plan(SMALL, **settings)


def test_a_recipe_has_no_other_options(tmp_path):
    with pytest.raises(TypeError, match="explore: no such option: learning_rate; a recipe has dataset"):
        explore(SMALL, tmp_path, learning_rate=0.1)


def test_the_accuracy_of_several_trainings_is_their_mean(tmp_path):
    study = explore(SMALL, tmp_path / "study", **{**SETTINGS, "trials": 1, "seeds": 3})
    (trial,) = study.trials()
    folders = [study.folder(trial.changed(seed=seed)) for seed in (5, 6, 7)]
    curves = [read_history(folder / "metrics.jsonl")["test_accuracy"] for folder in folders]
    assert trial.curves == tuple(map(tuple, curves)) and len(set(trial.curves)) == 3
    ends = [curve[-1] for curve in curves]
    assert (trial.state, trial.seed, trial.epochs) == ("finished", 5, 6)
    assert trial.values["accuracy"] == pytest.approx(sum(ends) / 3, abs=1e-12)
    assert trial.spread == pytest.approx(np.std(ends, ddof=1))
    assert trial.curve == pytest.approx(np.mean(curves, axis=0))
    words = shlex.split(study.plan.command(trial.design, 6))
    assert run_command([*words[1:], "--out", str(tmp_path / "again"), "--device", "cpu", "--quiet"]) == 0
    assert weights(tmp_path / "again") == weights(folders[1])


def test_several_trainings_cut_short_anywhere_go_on_to_what_whole_ones_give(tmp_path):
    settings = {**SETTINGS, "trials": 1, "seeds": 2}
    whole = explore(SMALL, tmp_path / "whole", **settings).trials()
    for epochs in (1, 2, 3):

        def cut(trial, epochs=epochs):
            if (trial.number, trial.epochs) == (0, epochs):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            explore(SMALL, tmp_path / "cut", on_trial=cut, **settings)
    assert [(trial.state, trial.epochs) for trial in Study(tmp_path / "cut").trials()] == [("waiting", 3)]
    study = explore(SMALL, tmp_path / "cut", **settings)
    assert [(one.values, one.curves) for one in study.trials()] == [(one.values, one.curves) for one in whole]
    assert all(trial.epochs == 4 and trial.spread is not None for trial in study.trials())


def test_a_later_training_that_ends_early_stops_its_trial(tmp_path):
    study = Study(tmp_path)
    study.begin(Plan(Space(widths=(1.0,), groups=(1,)), sampler="grid", epochs=3, seeds=3))
    folders = []

    def stop(plan, trial, folder, watch):
        folders.append(folder)
        return {"test_accuracy": [0.25, 0.5, 0.75][: 3 if trial.seed == 0 else 2], "seconds": [1.0, 1.0]}

    study.run(train=stop, cost=cost)
    (trial,) = study.trials()
    assert folders == [tmp_path / "trials" / "0000" / f"seed-{seed}" for seed in (0, 1)]
    assert (trial.state, trial.reason, trial.epochs, trial.seconds) == ("stopped", "ended early", 5, 4.0)
    assert trial.values["accuracy"] == 0.75 and trial.spread is None
