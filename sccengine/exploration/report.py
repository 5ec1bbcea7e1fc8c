"""report.html and its pictures: what an exploration found, to be read in any browser and sent to anybody.

    report.html      one file: style sheet and charts inside, nothing loaded, no script
    pareto.png, importance.png, curves.png   the same charts for papers; left out where there is nothing to draw

Made anew from the records each time, during an exploration too.
"""

from __future__ import annotations

import json
import time
from html import escape
from pathlib import Path

from sccengine.exploration.findings import Findings
from sccengine.exploration.report_charts import curves_chart, tradeoff_chart, volume_chart
from sccengine.exploration.report_html import duration, facts, table, unbroken
from sccengine.exploration.report_style import STYLE
from sccengine.exploration.trial import OVER
from sccengine.files import remove_if_there, write_atomically
from sccengine.machine import describe_machine, versions
from sccengine.wording import counted

_MARKS = {
    "front": ("on the front", '<circle class="mark front" cx="9" cy="9" r="6"/>'),
    "finished": ("finished", '<circle class="mark finished" cx="9" cy="9" r="5"/>'),
    "stopped": ("stopped early", '<path class="mark stopped" d="M4 4l10 10m0 -10l-10 10"/>'),
}


def write_report(out, plan, trials):
    """Write report.html and the pictures into the folder `out`, and return the path of the page.

    plan     the Plan of the study
    trials   its Trials, over or not, of which there may be none

    Raises OSError that names the file.
    """
    from sccengine.exploration.report_plots import draw_curves, draw_fronts, draw_importances
    from sccengine.training.plots import save_figure

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    findings = Findings(plan, tuple(trials))
    title = title_of(plan)
    for name, draw in (("pareto", draw_fronts), ("importance", draw_importances), ("curves", draw_curves)):
        figure = draw(findings, title)
        if figure is None:
            remove_if_there(out / f"{name}.png")
        else:
            save_figure(figure, out / f"{name}.png")
    write_atomically(out / "report.html", page(findings))
    return out / "report.html"


def title_of(plan):
    """What was explored in a few words: dscnet on digits."""
    return f"{', '.join(plan.space.models)} on {plan.options['dataset']}"


def page(findings):
    """The text of report.html."""
    title = escape(f"Exploration of {title_of(findings.plan)}")
    sections = (_overview, _fronts, _best, _importance, _progress, _trials, _provenance)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
        + "\n".join(filter(None, (section(findings) for section in sections)))
        + "\n</main>\n</body>\n</html>\n"
    )


def _overview(findings):
    plan, space, counts = findings.plan, findings.plan.space, findings.counts
    over = sum(trial.over for trial in findings.trials)
    planned = "all designs" if plan.trials is None else f"{plan.trials} to be trained"
    states = [state for state in (*OVER, "running", "waiting") if counts[state] or state == "finished"]
    tiles = {
        "designs in the space": f"{space.size:,}",
        **{state: f"{counts[state]}" for state in states},
        "on the front": f"{len(findings.front)}",
        "training time": duration(findings.seconds),
    }
    if findings.front:
        tiles["best accuracy"] = findings.objectives[0].text(findings.front[0].values["accuracy"])
    saved = findings.saved
    if sum(saved.values()):
        tiles["time saved, about"] = duration(sum(saved.values()))
    choices = {
        "models": space.models,
        "schemes": space.schemes,
        "widths": space.widths,
        "groups (cg)": space.groups,
        "overlaps (co)": space.overlaps,
    }
    rows = [(name, ", ".join(map(str, values))) for name, values in choices.items()]
    rows.append(("groups and overlap", "for each layer by itself" if space.per_layer else "one for the whole network"))
    rows.append(("objectives", ", ".join(f"{one.name} ({one.label}, {one.direction}d)" for one in findings.objectives)))
    seeds = f"seed {plan.seed}" if plan.seeds == 1 else f"means of seeds {plan.seed} to {plan.seed + plan.seeds - 1}"
    rows.append(("search", f"{plan.sampler}, {planned}, {counted(plan.epochs, 'epoch')} each, {seeds}"))
    limited = [one for one in findings.costs if one.name in plan.limits]
    if limited:
        rows.append(("limits", ", ".join(f"{one.name} at most {one.text(plan.limits[one.name])}" for one in limited)))
    parts = [
        f'<p class="faint">{over} of {len(findings.trials)} trials are over; '
        f"{escape(time.strftime('%Y-%m-%d %H:%M:%S %z'))}.</p>",
        '<dl class="tiles">',
        *(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in tiles.items()),
        "</dl>",
        facts(rows),
    ]
    if counts["stopped"]:
        parts.append(
            f"<p>Stopping trials that could no longer reach the front saved about {duration(saved['stopped'])} of "
            "training, at their own pace.</p>"
        )
    if counts["rejected"]:
        parts.append(
            f"<p>Rejecting designs for their costs, before any training, saved about {duration(saved['rejected'])}, "
            "at the mean time of a finished trial.</p>"
        )
    return "\n".join(parts)


def _fronts(findings):
    if not findings.front:
        return "<h2>Pareto fronts</h2>\n<p>No trial has finished yet, so there is no front.</p>"
    figures = []
    for cost in findings.costs:
        count = len(findings.front_against(cost))
        caption = f"Accuracy and {escape(cost.name)}: {count} {'design' if count == 1 else 'designs'} on the front"
        figures.append(f"<figure>{tradeoff_chart(findings, cost)}<figcaption>{caption}.</figcaption></figure>")
    return (
        "<h2>Pareto fronts</h2>\n<p>On a front no design is at least as good in both and better in one. "
        "Accuracies are spread by the logarithm of the errors; numbers are those of trials, and stopped ones stand at "
        "the accuracy they had, or at the lower edge.</p>\n"
        + _key(findings)
        + f'\n<div class="charts">{"".join(figures)}</div>'
    )


def _best(findings):
    if not findings.front:
        return ""
    heads = ["trial", *(one.name for one in findings.objectives), "design"]
    rows = [[str(trial.number), *_cells(findings, trial), escape(trial.design.name)] for trial in findings.front]
    plan = findings.plan
    commands = [
        f"<h3>Trial {trial.number}: {escape(trial.design.name)}</h3>\n"
        f"<pre>{unbroken(escape(plan.command(trial.design, trial.seed)))}</pre>"
        for trial in findings.front
    ]
    count = len(findings.objectives)
    again = "With the same versions on the same kind of device these give the same weights, to the bit."
    spread = ""
    if plan.seeds > 1:
        spread = f" Accuracies are means of {plan.seeds} trainings, ± their sample standard deviation."
        again += f" They are the first of {plan.seeds} trainings; the others have the next seeds."
    return (
        f"<h2>Best designs</h2>\n<p>The front of all {count} objectives, the most accurate first.{spread}</p>\n"
        + table(heads, rows, figures=range(1, 1 + count), names=(1 + count,))
        + f"\n<h2>Train them again</h2>\n<p>{again}</p>\n"
        + "\n".join(commands)
    )


def _importance(findings):
    parts = []
    for objective in findings.objectives:
        rows = []
        for one in findings.importances(objective):
            means = (f"{level}: {_brief(objective, mean)}" for level, _, mean in one.levels)
            means = escape(", ".join(mean.replace(" ", "\N{NO-BREAK SPACE}") for mean in means))
            share = 0 if one.share is None else 100 * one.share
            text = "unknown" if one.share is None else f"{share:.0f}%"
            rows.append([escape(one.setting), text, f'<i style="width:{share:.1f}%"></i>', means])
        if rows:
            mean = "mean" if objective.name == "accuracy" else "geometric mean"
            heads = ("setting", "share", "", f"{mean} by value")
            parts.append(
                f"<h3>{escape(objective.label)}</h3>\n" + table(heads, rows, figures=(1,), bars=(2,), words=(3,))
            )
    if not parts:
        return ""
    return (
        "<h2>What matters</h2>\n<p>The share of the variance that each setting accounts for, by an additive model of "
        "all settings, as far as it foretells trials that were left out of its fit (logarithms of costs). What is "
        "missing from 100% is chance, and settings that matter only together. Means by value are plain ones: other "
        "settings may have differed, too.</p>\n" + "\n".join(parts)
    )


def _progress(findings):
    figures = []
    if chart := volume_chart(findings):
        figures.append(
            f"<figure>{chart}<figcaption>Hypervolume: the part that the trials so far dominate of the box between the "
            "worst (a tenth of the range worse still) and the best values found in this study.</figcaption></figure>"
        )
    if chart := curves_chart(findings):
        figures.append(
            f"<figure>{chart}<figcaption>Test accuracy by epoch; a cross ends stopped trials.</figcaption></figure>"
        )
    if not figures:
        return ""
    return f'<h2>How it went</h2>\n{_key(findings)}\n<div class="charts">{"".join(figures)}</div>'


def _trials(findings):
    if not findings.trials:
        return ""
    heads = ["trial", "state", *(one.name for one in findings.objectives), "epochs", "seconds", "design", "why"]
    rows = [
        [
            str(trial.number),
            escape(trial.state),
            *_cells(findings, trial),
            str(trial.epochs),
            f"{trial.seconds:.1f}",
            escape(trial.design.name),
            escape(trial.error or trial.reason or ""),
        ]
        for trial in findings.trials
    ]
    last = 4 + len(findings.objectives)
    listed = table(heads, rows, figures=range(2, last), names=(last,), words=(last + 1,))
    failed = [trial.error or "no message" for trial in findings.trials if trial.state == "failed"]
    warning = f"<p>{len(failed)} failed; the first with: {escape(failed[0])}</p>\n" if failed else ""
    return f"<h2>All trials</h2>\n{warning}<details><summary>{len(rows)} trials</summary>\n{listed}\n</details>"


def _provenance(findings):
    machine = describe_machine()
    workers = sorted({trial.worker for trial in findings.trials if trial.worker})
    rows = [
        ("machine of this report", f"{machine['processor']}, {machine['cores']} cores, {machine['system']}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions().items())),
        ("workers", ", ".join(workers) or "none yet"),
    ]
    settings = escape(json.dumps(findings.plan.as_dict(), indent=2))
    details = f"<details><summary>All settings</summary>\n<pre>{settings}</pre>\n</details>"
    return f"<h2>Provenance</h2>\n{facts(rows)}\n{details}"


def _key(findings):
    """What the marks in the charts mean, those that occur."""
    shown = [mark for kind, mark in _MARKS.items() if kind == "front" or findings.counts[kind]]
    items = (f'<li><svg viewBox="0 0 18 18" aria-hidden="true">{mark}</svg>{text}</li>' for text, mark in shown)
    return f'<ul class="key">{"".join(items)}</ul>'


def _cells(findings, trial):
    """The values of the objectives, as in a table whose head names them; a dash for one that is missing."""
    return [_cell(one, trial) if one.name in trial.values else "-" for one in findings.objectives]


def _cell(objective, trial):
    return trial.text(objective) if objective.name == "accuracy" else _brief(objective, trial.values[objective.name])


def _brief(objective, value):
    """A value without the words of its unit: "97.21%", "3.07 ms", "4,746"."""
    if objective.unit == objective.shown_unit:
        return f"{value:,.0f}"
    return objective.text(value)
