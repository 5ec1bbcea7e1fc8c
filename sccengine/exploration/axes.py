"""Axes of the pictures of an exploration: where values lie, and what stands beside them.

Accuracies are spread by the logarithm of the errors, so that 99% and 99.5% are as far apart as 90% and 95%; costs by
their logarithm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sccengine.training.comparison_plots import short

# Fewer errors than this, none of them included, are drawn as this.
LEAST_ERROR = 0.001
_LEAST_TICKS = 4


@dataclass(frozen=True)
class Axis:
    """`low` and `high` in the units of `place`; ticks are [(place, text)]."""

    label: str
    low: float
    high: float
    ticks: tuple

    def share(self, place):
        """Where a place lies between low and high, 0 to 1 within."""
        return (place - self.low) / (self.high - self.low)


def accuracy_place(accuracy):
    """Where an accuracy, a fraction, lies on its axis."""
    return -math.log10(max(1 - accuracy, LEAST_ERROR))


def accuracy_reach(trial, axis):
    """From one standard deviation below the accuracy of a trial to one above, within an axis; None for one training."""
    if trial.spread is None:
        return None
    mean = trial.values["accuracy"]
    return [min(max(accuracy_place(end), axis.low), axis.high) for end in (mean - trial.spread, mean + trial.spread)]


def accuracy_axis(accuracies, label="test accuracy"):
    """An Axis for accuracies; of all if there are none."""
    places = [accuracy_place(accuracy) for accuracy in accuracies] or [0.0, 2.0]
    room = max(0.08 * (max(places) - min(places)), 0.04)
    low, high = max(min(places) - room, -0.05), max(places) + room
    return Axis(label, low, high, _apart(_accuracy_ticks(low, high), (high - low) / 12))


def _accuracy_ticks(low, high):
    """Errors of 1, 2 and 5 times powers of ten; where few of them fit, finer ones."""
    for errors in (
        (1000, 800, 500, 200, 100, 50, 20, 10, 5, 2, 1),
        (*range(1000, 100, -50), *range(100, 10, -10), 5, 2, 1),
        range(1000, 0, -1),
    ):
        accuracies = [1 - error / 1000 for error in errors]
        ticks = [(accuracy_place(one), f"{100 * one:g}%" if one < 0.999 else "99.9%+") for one in accuracies]
        ticks = [tick for tick in ticks if low <= tick[0] <= high]
        if len(ticks) >= _LEAST_TICKS:
            return ticks
    return ticks


def cost_place(objective, value):
    """Where a cost lies on its axis."""
    return math.log10(max(objective.shown(value), 1e-12))


def cost_axis(objective, values):
    """An Axis for values of a cost."""
    places = [cost_place(objective, value) for value in values] or [0.0, 1.0]
    room = max(0.08 * (max(places) - min(places)), 0.02)
    low, high = min(places) - room, max(places) + room
    unit = "" if objective.unit == objective.shown_unit else f" ({objective.shown_unit})"
    return Axis(f"{objective.label}{unit}", low, high, _apart(_cost_ticks(low, high), (high - low) / 7))


def whole_axis(label, low, high):
    """An Axis for whole numbers, with some eight ticks."""
    high = max(high, low + 1)
    steps = (factor * 10**power for power in range(18) for factor in (1, 2, 5))
    step = next(step for step in steps if high - low <= 8 * step)
    places = [place for place in range(low, high + 1) if place == low or place % step == 0]
    return Axis(label, low, high, tuple((place, str(place)) for place in places))


def _cost_ticks(low, high):
    """Round numbers: 1, 2 and 5 times powers of ten; where fewer than three of them fit, finer ones."""
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), tuple(range(10, 100))):
        decades = range(math.floor(low) - 1, math.ceil(high) + 1)
        places = [math.log10(step) + decade for decade in decades for step in steps]
        ticks = [(place, short(float(f"{10**place:.3g}"))) for place in sorted(places) if low <= place <= high]
        if len(ticks) >= _LEAST_TICKS - 1:
            return ticks
    return ticks or [((low + high) / 2, short(float(f"{10 ** ((low + high) / 2):.3g}")))]


def _apart(ticks, least):
    """Of ticks in order, those at least so far from the one kept before."""
    kept = []
    for tick in ticks:
        if not kept or tick[0] - kept[-1][0] >= least:
            kept.append(tick)
    return tuple(kept)
