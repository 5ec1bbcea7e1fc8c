"""What is proposed next: valid designs, none twice, decided by the record alone; and worth more than chance."""

import builtins
from dataclasses import replace

import pytest

from sccengine.exploration import OBJECTIVES, SAMPLERS, Plan, Space, Trial
from sccengine.exploration.pareto import front_of, hypervolume
from sccengine.exploration.search import choose_sampler, propose

SMALL = Space(widths=(0.25, 1.0), groups=(1, 2), overlaps=(0.0, 0.5))
LARGE = Space(groups=(1, 2, 4, 8), per_layer=True)
OBJECTIVE = [OBJECTIVES["accuracy"], OBJECTIVES["params"]]


def values(design):
    """An invented problem with a front: accuracy wants overlap in the last layer, parameters want groups."""
    groups = design.groups if isinstance(design.groups, tuple) else (design.groups,) * 3
    overlaps = design.overlap if isinstance(design.overlap, tuple) else (design.overlap,) * 3
    accuracy = 0.5 + 0.2 * design.width + 0.1 * overlaps[2] - 0.02 * groups[0] - 0.01 * abs(groups[1] - 2)
    return {"accuracy": accuracy, "params": 100 * design.width / groups[2] + 10 / groups[0]}


def search(plan, count, trials=()):
    trials = list(trials)
    for _ in range(count):
        design = propose(plan, trials)
        if design is None:
            break
        trials.append(
            Trial(len(trials), design, "finished", values(design), epochs=1, curves=[(values(design)["accuracy"],)])
        )
    return trials


def need_optuna(sampler):
    if sampler in ("nsga2", "tpe"):
        pytest.importorskip("optuna")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_design_is_proposed_once_and_then_none(sampler):
    need_optuna(sampler)
    trials = search(Plan(SMALL, sampler=sampler, trials=100), 100)
    designs = [trial.design for trial in trials]
    assert len(set(designs)) == len(designs) == SMALL.size
    assert set(designs) == set(SMALL.grid())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_record_alone_decides_what_comes_next(sampler):
    need_optuna(sampler)
    plan = Plan(LARGE, sampler=sampler, trials=24, seed=3)
    once = search(plan, 16)
    assert search(plan, 6, once[:10]) == once
    if sampler != "grid":
        assert search(replace(plan, seed=4), 16) != once
    assert {trial.design for trial in once} <= set(LARGE.grid())


@pytest.mark.parametrize("state", ["running", "failed", "rejected", "waiting"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_trials_without_an_accuracy_are_no_obstacle(sampler, state):
    need_optuna(sampler)
    plan = Plan(LARGE, sampler=sampler, trials=24)
    trials = search(plan, 6)
    trials = [trials[0].changed(state=state, values={"params": 10.0}), *trials[1:]]
    found = search(plan, 3, trials)
    assert len({trial.design for trial in found}) == 9


def test_a_search_finds_more_than_chance_does():
    pytest.importorskip("optuna")

    def volume(plan):
        front = front_of(search(plan, 40), OBJECTIVE)
        points = [[trial.values[one.name] for one in OBJECTIVE] for trial in front]
        return hypervolume(points, (0.5, 110.0), [one.direction for one in OBJECTIVE])

    def mean(name):
        return sum(volume(Plan(LARGE, sampler=name, trials=40, seed=seed)) for seed in range(8)) / 8

    assert mean("nsga2") > mean("random")


def test_the_sampler_for_a_budget():
    assert choose_sampler(SMALL, SMALL.size) == choose_sampler(SMALL, None) == "grid"
    pytest.importorskip("optuna")
    assert choose_sampler(SMALL, SMALL.size - 1) == "nsga2"


def test_without_optuna_grid_and_random_work_and_the_others_say_what_is_missing(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **settings):
        if name.partition(".")[0] == "optuna":
            raise ImportError("No module named 'optuna'")
        return real(name, *arguments, **settings)

    monkeypatch.setattr(builtins, "__import__", without)
    assert choose_sampler(LARGE, 10) == "random"
    for sampler in ("grid", "random"):
        assert len(search(Plan(LARGE, sampler=sampler), 5)) == 5
    with pytest.raises(ImportError, match=r"dashboard need Optuna .*pip install \"sccengine\[explore\]\"; the"):
        search(Plan(LARGE, sampler="nsga2"), 1)
