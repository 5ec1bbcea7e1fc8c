"""Which of a design's settings explain how its values differ: the share of variance that each explains by itself.

For every setting that took several values, trials are grouped by its value, and (one-way analysis of variance)

    share = (between - (k - 1) * within / (n - k)) / total          but at least 0

with the sums of squares between and within the k groups of n trials: Kelley's epsilon squared, which unlike the plain
between / total is 0 in the mean for a setting that does nothing, however many values it took. Costs are compared by
their logarithms, as a factor is what counts.

What it cannot see: settings that matter only together have small shares, and where a search tries some combinations
more often than others, as all but grid and random do, a setting is credited with what often came along with it. With
fewer than LEAST trials, or another value of the setting in each of them, there is nothing to say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sccengine.models import mixing_layers

LEAST = 4


@dataclass(frozen=True)
class Importance:
    """`share`: of the variance, 0 to 1, or None where there is nothing to say.

    levels   [(value of the setting, how many trials, their mean)] in order; geometric means for costs
    """

    setting: str
    share: float | None
    levels: tuple


def importances(trials, objective, stem="cifar"):
    """The Importance of every setting that differs among the trials with a value of `objective`, largest first.

    Accuracies are those of finished trials, costs those of all.
    """
    layers = any(isinstance(value, tuple) for trial in trials for value in (trial.design.groups, trial.design.overlap))
    rows = []
    for trial in trials:
        value = trial.values.get(objective.name)
        if objective.name == "accuracy" and trial.state != "finished":
            continue
        if value is None or not math.isfinite(value) or (objective.direction == "minimize" and value <= 0):
            continue
        settings = settings_of(trial.design, stem if layers else None)
        rows.append((settings, value if objective.name == "accuracy" else math.log(value)))
    found = []
    for name in dict.fromkeys(name for settings, _ in rows for name in settings):
        groups = {}
        for settings, value in rows:
            if name in settings:
                groups.setdefault(settings[name], []).append(value)
        if len(groups) > 1:
            found.append(Importance(name, _share(list(groups.values())), _levels(groups, objective)))
    return sorted(found, key=lambda one: -1 if one.share is None else -one.share)


def settings_of(design, stem=None):
    """The settings of a design by name, those left out that its scheme does not use.

    stem   None, or the network's: then groups and overlap of each layer are settings of their own, "groups, layer 0"
    """
    settings = {"model": design.model, "scheme": design.scheme, "width": design.width}
    names = {"standard": (), "dw+pw": (), "dw+scc": ("groups", "overlap")}.get(design.scheme, ("groups",))
    for name in names:
        value = getattr(design, name)
        if stem is None:
            settings[name] = value
            continue
        count = len(mixing_layers(design.model, design.width, stem))
        values = value if isinstance(value, tuple) else (value,) * count
        settings |= {f"{name}, layer {i}": one for i, one in enumerate(values)}
    return settings


def _share(groups):
    """Epsilon squared of lists of values."""
    values = [value for group in groups for value in group]
    n, k = len(values), len(groups)
    if n < LEAST or n <= k:
        return None
    mean = math.fsum(values) / n
    total = math.fsum((value - mean) ** 2 for value in values)
    if total <= 1e-12 * max(mean * mean, 1e-12) * n:
        return None
    within = 0.0
    for group in groups:
        middle = math.fsum(group) / len(group)
        within += math.fsum((value - middle) ** 2 for value in group)
    return max(0.0, (total - within - (k - 1) * within / (n - k)) / total)


def _levels(groups, objective):
    means = {level: math.fsum(values) / len(values) for level, values in groups.items()}
    if objective.name != "accuracy":
        means = {level: math.exp(mean) for level, mean in means.items()}
    return tuple((level, len(groups[level]), means[level]) for level in sorted(groups, key=_order))


def _order(level):
    return (isinstance(level, str), level)
