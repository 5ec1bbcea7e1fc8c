"""Which of a design's settings explain how its values differ: the share of variance that each accounts for.

The model is additive: a value is a mean plus an effect of each setting's value, fitted to all settings at once, so that
a search that tries some combinations more often than others does not credit one setting with the effect of another.
Effects are held small (ridge regression) as much as makes the model best at foretelling trials left out of the fit, one
at a time. What it then explains of those, a fraction R of the variance, is divided in proportion to the covariances of
effects and values (Pratt, 1987; negative ones count as 0). So shares add up to R, and a setting that does nothing, or
too few trials to tell, come to little or nothing. Costs are compared by their logarithms, as a factor is what counts.

What it cannot see: settings that matter only together; what is missing from a sum of 1 is that, and chance. Settings
that always changed together share what either did. With fewer than LEAST trials there is nothing to say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sccengine.models import USES, mixing_layers

LEAST = 4
_PENALTIES = np.logspace(-6, 3, 37)


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
    names = dict.fromkeys(name for settings, _ in rows for name in settings)
    groups = {name: _grouped(name, rows) for name in names}
    groups = {name: levels for name, levels in groups.items() if len(levels) > 1}
    shares = _shares(list(groups), rows)
    found = [Importance(name, shares[name], _means(levels, objective)) for name, levels in groups.items()]
    return sorted(found, key=lambda one: -1 if one.share is None else -one.share)


def settings_of(design, stem=None):
    """The settings of a design by name, those left out that its scheme does not use.

    stem   None, or the network's: then groups and overlap of each layer are settings of their own, "groups, layer 0"
    """
    settings = {"model": design.model, "scheme": design.scheme, "width": design.width}
    for name in USES[design.scheme]:
        value = getattr(design, name)
        if stem is None:
            settings[name] = value
            continue
        count = len(mixing_layers(design.model, design.width, stem))
        values = value if isinstance(value, tuple) else (value,) * count
        settings |= {f"{name}, layer {i}": one for i, one in enumerate(values)}
    return settings


def _grouped(name, rows):
    """Value of a setting -> values of the objective."""
    groups = {}
    for settings, value in rows:
        if name in settings:
            groups.setdefault(settings[name], []).append(value)
    return groups


def _shares(names, rows):
    """Setting -> share of the variance, or None."""
    y = np.array([value for _, value in rows])
    if len(y) < LEAST or not names or np.ptp(y) <= 1e-9 * max(abs(y).max(), 1e-9):
        return dict.fromkeys(names)
    y -= y.mean()
    columns, owners = [], []
    for name in names:
        for level in dict.fromkeys(settings[name] for settings, _ in rows if name in settings):
            columns.append([settings.get(name) == level for settings, _ in rows])
            owners.append(name)
    x = np.array(columns, float).T
    x -= x.mean(axis=0)
    effects, explained = _ridge(x, y)
    covariances = {name: 0.0 for name in names}
    for name, column, effect in zip(owners, x.T, effects):
        covariances[name] += effect * (column @ y)
    covariances = {name: max(value, 0.0) for name, value in covariances.items()}
    total = sum(covariances.values())
    return {name: float(explained * value / total) if total else 0.0 for name, value in covariances.items()}


def _ridge(x, y):
    """(effects, R) with the penalty that foretells values left out best; R is 0 where their mean does no worse."""
    u, singular, vt = np.linalg.svd(x, full_matrices=False)
    count = len(y)
    left_out = {}
    for penalty in _PENALTIES:
        shrink = singular**2 / (singular**2 + penalty)
        residuals = y - u @ (shrink * (u.T @ y))
        leverage = (u**2) @ shrink + 1 / count
        left_out[penalty] = float(np.sum((residuals / np.maximum(1 - leverage, 1e-9)) ** 2))
    penalty = min(left_out, key=left_out.get)
    without = float(np.sum((y / (1 - 1 / count)) ** 2))
    effects = vt.T @ (singular / (singular**2 + penalty) * (u.T @ y))
    return effects, max(0.0, 1 - left_out[penalty] / without)


def _means(groups, objective):
    means = {level: math.fsum(values) / len(values) for level, values in groups.items()}
    if objective.name != "accuracy":
        means = {level: math.exp(mean) for level, mean in means.items()}
    return tuple((level, len(groups[level]), means[level]) for level in sorted(groups, key=_order))


def _order(level):
    return (isinstance(level, str), level)
