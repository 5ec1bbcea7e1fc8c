"""Importance: variance shares against numbers worked out by hand, and against designs where the truth is known."""

import itertools
import random
import statistics

import pytest

from sccengine.exploration import OBJECTIVES, Design, Trial
from sccengine.exploration.importance import importances, settings_of

ACCURACY, PARAMS = OBJECTIVES["accuracy"], OBJECTIVES["params"]


def trials_of(designs, accuracy, params=lambda design: 1000):
    return [
        Trial(number, design, "finished", {"accuracy": accuracy(design), "params": params(design)})
        for number, design in enumerate(designs)
    ]


def test_shares_worked_out_by_hand():
    values = {(0.5, 2): 0.1, (0.5, 4): 0.3, (1.0, 2): 0.6, (1.0, 4): 0.8}
    designs = [Design(width=width, groups=groups) for width, groups in values]
    found = importances(trials_of(designs, lambda d: values[d.width, d.groups]), ACCURACY)
    # Additive without a rest: of the total 0.29, width accounts for 4 * 0.25**2, groups for 4 * 0.1**2.
    assert [one.setting for one in found] == ["width", "groups"]
    assert found[0].share == pytest.approx(0.25 / 0.29, abs=1e-4)
    assert found[1].share == pytest.approx(0.04 / 0.29, abs=1e-4)
    assert [level[:2] for level in found[0].levels] == [(0.5, 2), (1.0, 2)]
    assert [level[2] for level in found[0].levels] == pytest.approx([0.2, 0.7])


def test_what_does_nothing_has_a_share_of_nothing_in_the_mean():
    grid = [
        Design(width=w, groups=g, overlap=o) for w, g, o in itertools.product((0.5, 1), (1, 2, 4, 8), (0, 0.25, 0.5))
    ]
    found, widths = [], []
    for seed in range(60):
        noise = random.Random(seed).gauss
        trials = trials_of(grid, lambda d, noise=noise: d.width + noise(0, 0.1))
        one = {importance.setting: importance.share for importance in importances(trials, ACCURACY)}
        widths.append(one["width"])
        found += [one["groups"], one["overlap"]]
    assert statistics.fmean(found) < 0.03
    assert 0.75 < statistics.fmean(widths) < 0.86  # variances are 0.0625 and 0.01: 0.86, if all of it could be found
    nothing = []
    for seed in range(60):
        noise = random.Random(seed).gauss
        nothing.append(
            sum(i.share for i in importances(trials_of(grid, lambda d, noise=noise: noise(0.5, 0.1)), ACCURACY))
        )
    assert statistics.median(nothing) < 0.05


def test_costs_are_compared_by_their_logarithms_and_known_for_all_trials():
    designs = [Design(width=w, groups=g) for w, g in itertools.product((0.5, 1.0), (2, 4))]
    trials = trials_of(designs, lambda d: 0.5, lambda d: 10 ** (1 + 2 * d.width) * (1 if d.groups == 2 else 10))
    trials = [trial.changed(state="rejected", values={"params": trial.values["params"]}) for trial in trials]
    found = importances(trials, PARAMS)
    assert [one.share for one in found] == pytest.approx([0.5, 0.5], abs=1e-3)  # both are a factor of ten
    width = next(one for one in found if one.setting == "width")
    assert width.levels[0][2] == pytest.approx(10**2.5)  # the geometric mean
    assert importances(trials, ACCURACY) == []


def test_few_trials_and_equal_ones_have_no_shares():
    designs = [Design(width=width) for width in (0.25, 0.5, 1.0)]
    assert importances([], ACCURACY) == importances(trials_of(designs[:1], lambda d: 0.5), ACCURACY) == []
    assert [one.share for one in importances(trials_of(designs, lambda d: d.width), ACCURACY)] == [None]
    assert importances(trials_of([*designs, *designs], lambda d: d.width), ACCURACY)[0].share > 0.99
    equal = trials_of([*designs, *designs], lambda d: 0.5)
    assert [one.share for one in importances(equal, ACCURACY)] == [None]
    different = trials_of([Design(width=0.1 * (1 + i)) for i in range(6)], lambda d: d.width)
    assert importances(different, ACCURACY)[0].share < 1e-6  # no width tells of another


def test_stopped_and_missing_accuracies_do_not_count():
    designs = [Design(width=width) for width in (0.5, 0.5, 1.0, 1.0)]
    trials = trials_of(designs, lambda d: d.width / 2)
    stopped = Trial(9, Design(width=0.25), "stopped", {"accuracy": 0.9, "params": 5})
    nothing = Trial(10, Design(width=0.25), "finished", {"accuracy": float("nan"), "params": 5})
    assert importances([*trials, stopped, nothing], ACCURACY) == importances(trials, ACCURACY)


def test_layers_have_settings_of_their_own_where_they_differ():
    mixed, plain = Design(groups=(2, 4, 2), overlap=0.5), Design(groups=4, overlap=0.25)
    assert settings_of(plain) == {"model": "dscnet", "scheme": "dw+scc", "width": 1.0, "groups": 4, "overlap": 0.25}
    assert settings_of(mixed, "cifar")["groups, layer 1"] == 4
    assert (
        settings_of(plain, "cifar")["groups, layer 2"] == 4 and settings_of(plain, "cifar")["overlap, layer 0"] == 0.25
    )
    assert set(settings_of(Design(scheme="dw+pw", groups=1, overlap=0.0))) == {"model", "scheme", "width"}
    assert "overlap" not in settings_of(Design(scheme="dw+gpw"))

    designs = [Design(groups=groups, overlap=0.5) for groups in itertools.product((2, 4), repeat=3)]
    found = importances(
        trials_of(designs, lambda d: (d.groups if isinstance(d.groups, tuple) else (d.groups,) * 3)[1] / 10), ACCURACY
    )
    assert found[0].setting == "groups, layer 1" and found[0].share == pytest.approx(1.0, abs=1e-3)
    assert [one.share for one in found[1:]] == pytest.approx([0.0, 0.0], abs=1e-3)


def test_a_setting_is_not_credited_with_what_came_along_with_it():
    """As a search that closes in does: nearly always wide with little overlap, narrow with much."""
    pairs = [(1.0, 0.0)] * 5 + [(0.5, 0.5)] * 5 + [(1.0, 0.5), (0.5, 0.0)]
    designs = [Design(width=width, overlap=overlap) for width, overlap in pairs]
    found = {one.setting: one.share for one in importances(trials_of(designs, lambda d: d.width / 2), ACCURACY)}
    assert found["width"] > 0.95 and found["overlap"] < 0.05
