"""The pictures beside report.html as Matplotlib figures, for papers and notebooks: fronts, importances, curves.

Colours after Okabe and Ito, and a marker of its own for each kind of trial, so that nothing depends on colours alone.
"""

from __future__ import annotations

from sccengine.drawing import OKABE_ITO, tidy
from sccengine.exploration.axes import accuracy_axis, accuracy_place, accuracy_reach, cost_axis, cost_place

FRONT, STOPPED, OTHER = OKABE_ITO["blue"], OKABE_ITO["vermilion"], "#8a8a8a"
_MOST_SETTINGS = 12  # of a network with settings for every layer, those that matter most
_BARS = tuple(OKABE_ITO[name] for name in ("blue", "orange", "green", "purple", "vermilion"))


def draw_fronts(findings, title=""):
    """A figure of accuracy by each cost, side by side; None without a finished trial."""
    if not findings.front:
        return None
    figure = _figure(4.8 * max(len(findings.costs), 1.4), 4.4)
    panels = figure.subplots(1, len(findings.costs), squeeze=False)[0]
    for axes, cost in zip(panels, findings.costs):
        shown = findings.trained(cost)
        front = findings.front_against(cost)
        x = cost_axis(cost, [trial.values[cost.name] for trial in shown])
        y = accuracy_axis([trial.values["accuracy"] for trial in shown if trial.state == "finished"])

        def places(trials, cost=cost, y=y):
            lie = [(cost_place(cost, one.values[cost.name]), accuracy_place(one.values["accuracy"])) for one in trials]
            return [a for a, _ in lie], [max(b, y.low) for _, b in lie]

        numbers = {trial.number for trial in front}
        rest = [trial for trial in shown if trial.state == "finished" and trial.number not in numbers]
        stopped = [trial for trial in shown if trial.state == "stopped"]
        if rest:
            axes.plot(*places(rest), "o", color=OTHER, mfc="white", ms=6, label="finished", clip_on=False)
        if stopped:
            axes.plot(*places(stopped), "x", color=STOPPED, ms=6, label="stopped early", clip_on=False)
        along, up = places(front)
        axes.step([*along, x.high], [*up, up[-1]], where="post", color=FRONT, lw=1.6)
        axes.plot(along, up, "o", color=FRONT, ms=8, mec="white", label="front", clip_on=False, zorder=5)
        for a, b, trial in zip(along, up, front):
            if (reach := accuracy_reach(trial, y)) is not None:
                axes.vlines(a, *reach, color=FRONT, lw=1, alpha=0.6)
            axes.annotate(str(trial.number), (a, b), (5, -11), textcoords="offset points", fontsize=8, color=FRONT)
        _set_axes(axes, x, y)
    panels[0].set_ylabel("test accuracy")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def draw_importances(findings, title=""):
    """A figure of the share of variance that each setting explains, by objective; None where no share is known."""
    found = {one: [i for i in findings.importances(one) if i.share is not None] for one in findings.objectives}
    largest = {}
    for importance in (importance for several in found.values() for importance in several):
        largest[importance.setting] = max(importance.share, largest.get(importance.setting, 0.0))
    settings = sorted(largest, key=lambda name: -largest[name])[:_MOST_SETTINGS]
    if not settings:
        return None
    thick = 0.8 / len(found)
    figure = _figure(7.2, 1.4 + (0.16 + 0.17 * len(found)) * len(settings))
    axes = figure.subplots()
    for number, (objective, several) in enumerate(found.items()):
        shares = {importance.setting: importance.share for importance in several if importance.setting in settings}
        at = [settings.index(name) + (number - (len(found) - 1) / 2) * thick for name in shares]
        bars = axes.barh(at, [100 * share for share in shares.values()], 0.9 * thick, color=_BARS[number % len(_BARS)])
        bars.set_label(objective.name)
    axes.set_yticks(range(len(settings)), settings)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the variance (%)")
    tidy(axes, "x")
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=len(found), frameon=False)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def draw_curves(findings, title=""):
    """A figure of test accuracy by epoch, with stopped trials ending in a cross; None if no epoch was trained."""
    from matplotlib.ticker import MaxNLocator

    curves = [trial for trial in findings.trials if trial.curve]
    if not curves:
        return None
    figure = _figure(8, 4.6)
    axes = figure.subplots()
    front = {trial.number for trial in findings.front}
    y = accuracy_axis([value for trial in curves for value in trial.curve])
    for trial in sorted(curves, key=lambda trial: (trial.number in front, trial.state == "stopped")):
        on_front, stopped = trial.number in front, trial.state == "stopped"
        epochs = range(1, len(trial.curve) + 1)
        places = [accuracy_place(value) for value in trial.curve]
        color = FRONT if on_front else STOPPED if stopped else OTHER
        axes.plot(
            epochs,
            places,
            color=color,
            lw=1.8 if on_front else 1,
            alpha=1 if on_front or stopped else 0.6,
            ls="--" if stopped else "-",
            marker="o" if len(epochs) == 1 else None,
            ms=3,
        )
        if stopped:
            axes.plot(epochs[-1], places[-1], "x", color=color, ms=6)
    kinds = [(FRONT, "-", "front"), (OTHER, "-", "others"), (STOPPED, "--x", "stopped early")]
    for color, style, label in kinds if any(trial.state == "stopped" for trial in curves) else kinds[:2]:
        axes.plot([], [], style, color=color, label=label)
    axes.set_ylim(y.low, y.high)
    axes.set_yticks([place for place, _ in y.ticks], [text for _, text in y.ticks])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel("test accuracy")
    tidy(axes)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def _figure(width, height):
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def _set_axes(axes, x, y):
    axes.set_xlim(x.low, x.high)
    axes.set_ylim(y.low, y.high)
    axes.set_xticks([place for place, _ in x.ticks], [text for _, text in x.ticks])
    axes.set_yticks([place for place, _ in y.ticks], [text for _, text in y.ticks])
    axes.set_xlabel(x.label)
    tidy(axes)
