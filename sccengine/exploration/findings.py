"""What a report tells of the trials of a study, as plain numbers: counts, time, fronts, hypervolume."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from sccengine.exploration.importance import importances
from sccengine.exploration.objectives import OBJECTIVES
from sccengine.exploration.pareto import front_of, hypervolume, hypervolumes, reference_point


@dataclass(frozen=True)
class Findings:
    """Of a Plan and its Trials; values that are no finite numbers count as missing."""

    plan: object
    trials: tuple

    def __post_init__(self):
        object.__setattr__(self, "trials", tuple(map(_with_finite_values, self.trials)))

    @cached_property
    def objectives(self):
        """The Objectives, accuracy first."""
        names = sorted(self.plan.objectives, key=lambda name: name != "accuracy")
        return tuple(OBJECTIVES[name] for name in names)

    @property
    def costs(self):
        """The Objectives but for accuracy."""
        return self.objectives[1:]

    @cached_property
    def counts(self):
        """State -> how many trials are in it."""
        return Counter(trial.state for trial in self.trials)

    @cached_property
    def finished(self):
        """The trials that were trained to the end."""
        return tuple(trial for trial in self.trials if trial.state == "finished")

    @cached_property
    def front(self):
        """The trials on the front of all objectives, the most accurate first."""
        return tuple(sorted(front_of(self.trials, self.objectives), key=lambda trial: -trial.values["accuracy"]))

    def front_against(self, cost):
        """The trials on the front of accuracy and one cost, the cheapest first."""
        found = front_of(self.trials, (self.objectives[0], cost))
        return sorted(found, key=lambda trial: trial.values[cost.name])

    def trained(self, cost):
        """The trials that have an accuracy and that cost, final ones or of where they were stopped."""
        return [
            trial
            for trial in self.trials
            if trial.state in ("finished", "stopped") and {"accuracy", cost.name} <= trial.values.keys()
        ]

    @cached_property
    def seconds(self):
        """Of training, all trials and workers together."""
        return math.fsum(trial.seconds for trial in self.trials)

    @cached_property
    def saved(self):
        """{"stopped", "rejected"}: seconds of training not spent, estimated.

        A stopped trial would have gone on at its own pace; a rejected one would have taken the mean of finished ones.
        """
        pace = math.fsum(trial.seconds for trial in self.finished) / max(len(self.finished), 1)
        stopped = [trial for trial in self.trials if trial.state == "stopped" and trial.epochs]
        whole = self.plan.seeds * self.plan.epochs
        left = (trial.seconds / trial.epochs * max(whole - trial.epochs, 0) for trial in stopped)
        return {"stopped": math.fsum(left), "rejected": pace * self.counts["rejected"]}

    @cached_property
    def volumes(self):
        """[(trial's number, share)]: how much of the box between the worst and the best values that were found the
        trials up to this one dominate. Finished trials, in order; comparable within a study only.
        """
        points = [[trial.values.get(one.name) for one in self.objectives] for trial in self.finished]
        directions = [one.direction for one in self.objectives]
        reference = reference_point(points, directions)
        if reference is None:
            return []
        whole = [point for point in points if None not in point]
        ideal = [
            max(values) if direction == "maximize" else min(values)
            for values, direction in zip(zip(*whole), directions)
        ]
        box = hypervolume([ideal], reference, directions)
        volumes = hypervolumes(points, reference, directions)
        return [(trial.number, volume / box) for trial, volume in zip(self.finished, volumes)]

    def importances(self, objective):
        """importance.importances of an objective."""
        return importances(self.trials, objective, self.plan.space.stem)


def _with_finite_values(trial):
    values = {name: value for name, value in trial.values.items() if value is not None and math.isfinite(value)}
    return trial.changed(values=values, curves=[filter(math.isfinite, curve) for curve in trial.curves])
