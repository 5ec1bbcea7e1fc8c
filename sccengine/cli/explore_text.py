"""What ``sccengine explore`` prints: its headline, a line a trial, the outcome, and the status of a study."""

from __future__ import annotations

import time
from collections import Counter

import click

from sccengine.exploration.objectives import OBJECTIVES
from sccengine.exploration.trial import STATES
from sccengine.wording import counted


def headline(study, plan, begun):
    """What is searched, how, and where it goes."""
    space = plan.space
    trials = "all designs" if plan.trials is None else counted(plan.trials, "trial")
    epochs = ("" if plan.seeds == 1 else f"{plan.seeds} x ") + counted(plan.epochs, "epoch")
    verb = "going on with" if begun else "searching"
    return (
        f"{verb} {space.size:,} designs of {', '.join(space.models)} on {plan.options['dataset']} by {plan.sampler}: "
        f"{trials} of {epochs} for {', '.join(plan.objectives)}\n"
        f"{study.store}; run directories in {study.out / 'trials'}"
    )


class Ticker:
    """Called whenever something may have changed; prints a line for each trial that ended since, in any worker."""

    def __init__(self, study):
        self.study = study
        self._over = [trial.number for trial in study.trials() if trial.over]

    def __call__(self, trial=None):
        for trial in self.study.trials():
            if trial.over and trial.number not in self._over:
                self._over.append(trial.number)
                self._print(trial)

    def _print(self, trial):
        trained = len(self._over) - sum(other.state == "rejected" for other in self.study.trials())
        planned = self.study.plan.trials or self.study.plan.space.size
        on_front = any(other.number == trial.number for other in self.study.front())
        what = trial.error or trial.reason or ("on the front" if on_front else "")
        place = f"[{trained:>{len(str(planned))}}/{planned}] {trial.number:04}"
        how = f"{values_text(trial)}, {trial.state}" + (f": {what}" if what else "")
        click.echo(f"{place} {trial.design.name}: {how}")


def outcome(study):
    """The front, and what to do with it."""
    trials = study.trials()
    front = study.front()
    lines = ["", counts_text(trials), *_table(study, front)] if front else ["", counts_text(trials)]
    if front:
        best = max(front, key=lambda trial: trial.values["accuracy"])
        lines += ["", f"the most accurate again: {study.plan.command(best.design, best.seed)}"]
    lines.append(f"next: sccengine explore report {study.out}")
    return "\n".join(lines)


def status_text(study):
    """All trials in a table, the front marked, and rates."""
    trials = study.trials()
    lines = [headline(study, study.plan, True), *_table(study, trials), counts_text(trials)]
    timed = [trial.seconds for trial in trials if trial.over and trial.epochs]
    if timed:
        epochs = sum(trial.epochs for trial in trials if trial.over)
        lines.append(
            f"{sum(timed):.0f} s of training, {sum(timed) / len(timed):.1f} s a trial, {counted(epochs, 'epoch')}"
        )
    return "\n".join(lines)


def status_json(study):
    """The same as plain values."""
    trials = study.trials()
    return {
        "plan": study.plan.as_dict(),
        "counts": dict(Counter(trial.state for trial in trials)),
        "front": [trial.number for trial in study.front()],
        "trials": [trial.as_dict() for trial in trials],
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def counts_text(trials):
    """How many trials are in each state."""
    counts = Counter(trial.state for trial in trials)
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]) or "no trials yet"


def values_text(trial):
    """The objectives' values in words."""
    return ", ".join(trial.text(OBJECTIVES[name]) for name in trial.values) or "no values"


def _table(study, trials):
    """Lines: a row a trial, the front marked with *."""
    names = study.plan.objectives
    front = {trial.number for trial in study.front()}
    rows = [("", "trial", "state", *names, "epochs", "seconds", "design", "")]
    for trial in trials:
        values = [trial.text(OBJECTIVES[name]) if name in trial.values else "-" for name in names]
        rows.append(
            (
                "*" if trial.number in front else "",
                f"{trial.number:04}",
                trial.state,
                *(value.removesuffix(" " + OBJECTIVES[name].unit) for name, value in zip(names, values)),
                str(trial.epochs),
                f"{trial.seconds:.1f}",
                trial.design.name,
                trial.error or trial.reason or "",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    left = {0, 1, 2, len(widths) - 2, len(widths) - 1}
    return [
        "  ".join(text.ljust(widths[i]) if i in left else text.rjust(widths[i]) for i, text in enumerate(row)).rstrip()
        for row in rows
    ]
