"""From the outcome of a comparison to its files: compare.json, compare.csv, compare.md, compare.png, curves.png.

Accuracies are fractions of the test images. Over the seeds of a variant: mean and sample standard deviation (n - 1) of
the accuracy after the last epoch, and the mean of each run's best epoch, which is chosen on the test images and
therefore flatters.
"""

from __future__ import annotations

import csv
import io
import statistics

from sccengine.files import remove_if_there, write_atomically, write_json
from sccengine.wording import counted

BASELINE = "standard"
COLUMNS = (
    "variant",
    "scheme",
    "groups",
    "overlap",
    "params",
    "params_percent",
    "macs",
    "macs_percent",
    "seeds",
    "failed",
    "accuracy_mean",
    "accuracy_sd",
    "best_mean",
    "step_ms",
    "step_ms_p20",
    "step_ms_p80",
    "peak_mib",
)
_HEADINGS = (
    "scheme (cg, co)",
    "parameters",
    "%",
    "MACs",
    "%",
    "seeds",
    "accuracy (%)",
    "best (%)",
    "ms a step",
    "p20 to p80",
    "peak MiB",
)


def summary_rows(outcome):
    """A dict with COLUMNS for each variant; None where there is nothing to tell."""
    baseline = next((row for row in outcome["variants"] if row["variant"] == BASELINE), None)
    rows = []
    for row in outcome["variants"]:
        cells = [cell for cell in outcome["cells"] if cell["variant"] == row["variant"]]
        finished = [cell for cell in cells if cell["status"] == "finished"]
        last = [cell["accuracy"] for cell in finished]
        step = row["step"]
        rows.append(
            {
                **{key: row[key] for key in ("variant", "scheme", "groups", "overlap", "params", "macs")},
                "params_percent": baseline and 100 * row["params"] / baseline["params"],
                "macs_percent": baseline and 100 * row["macs"] / baseline["macs"],
                "seeds": len(finished),
                "failed": sum(cell["status"] == "failed" for cell in cells),
                "accuracy_mean": statistics.fmean(last) if last else None,
                "accuracy_sd": statistics.stdev(last) if len(last) > 1 else None,
                "best_mean": statistics.fmean(cell["best_accuracy"] for cell in finished) if last else None,
                "step_ms": step and 1e3 * step["p50"],
                "step_ms_p20": step and 1e3 * step["p20"],
                "step_ms_p80": step and 1e3 * step["p80"],
                "peak_mib": step and step["bytes"] / 2**20,
            }
        )
    return rows


def markdown_table(outcome):
    """The table of the variants as Markdown, and a line that says what its columns are."""
    lines = [f"| {' | '.join(_HEADINGS)} |", "|---|" + "---:|" * (len(_HEADINGS) - 1)]
    lines += [f"| {' | '.join(_table_cells(row))} |" for row in summary_rows(outcome)]
    return "\n".join([*lines, "", _note(outcome), ""])


def markdown(outcome):
    """The whole of compare.md."""
    options = outcome["settings"]["options"]
    lines = [
        f"# {options['model']} on {options['dataset']}\n",
        markdown_table(outcome),
        "![accuracy by parameters and by multiply-accumulates](compare.png)\n",
        "![test errors by epoch](curves.png)\n",
    ]
    trouble = [cell for cell in outcome["cells"] if cell["status"] != "finished"]
    if trouble:
        lines.append("## Cells without a result\n")
        for cell in trouble:
            reason = f": {cell['error']}" if "error" in cell else ""
            lines.append(f"* {cell['variant']}, seed {cell['seed']}: {cell['status']}{reason}")
        lines.append("")
    return "\n".join(lines)


def csv_text(outcome):
    """The rows as comma-separated values; an empty field where there is nothing to tell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(summary_rows(outcome))
    return text.getvalue()


def write_outcome(folder, outcome, histories):
    """Write the files of `outcome` into `folder`; `histories` is [(variant's name, test accuracy by epoch)]."""
    from sccengine.training.comparison_plots import draw_learning, draw_tradeoff
    from sccengine.training.plots import save_figure

    write_json(folder / "compare.json", {**outcome, "summary": summary_rows(outcome)})
    write_atomically(folder / "compare.csv", csv_text(outcome))
    write_atomically(folder / "compare.md", markdown(outcome))
    options = outcome["settings"]["options"]
    title = f"{options['model']} on {options['dataset']}"
    if histories:
        save_figure(draw_tradeoff(summary_rows(outcome), title), folder / "compare.png")
        save_figure(draw_learning(histories, title), folder / "curves.png")
    else:
        for name in ("compare.png", "curves.png"):
            remove_if_there(folder / name)


def _table_cells(row):
    def number(value, form):
        return "-" if value is None else format(value, form)

    def percent(value, form=".2f"):
        return number(None if value is None else 100 * value, form)

    spread = "" if row["accuracy_sd"] is None else f" ± {percent(row['accuracy_sd'])}"
    failed = f" ({row['failed']} failed)" if row["failed"] else ""
    return (
        row["variant"],
        f"{row['params']:,}",
        number(row["params_percent"], ".1f"),
        f"{row['macs']:,}",
        number(row["macs_percent"], ".1f"),
        f"{row['seeds']}{failed}",
        percent(row["accuracy_mean"]) + spread,
        percent(row["best_mean"]),
        number(row["step_ms"], ".2f"),
        "-" if row["step_ms"] is None else f"{row['step_ms_p20']:.2f} to {row['step_ms_p80']:.2f}",
        number(row["peak_mib"], ".1f"),
    )


def _note(outcome):
    settings, steps, machine = outcome["settings"], outcome["steps"], outcome["machine"]
    options = settings["options"]
    width = "" if options["width"] == 1 else f" of width {options['width']:g}"
    text = (
        f"{options['model']}{width} on {options['dataset']}, {counted(settings['epochs'], 'epoch')} in batches of "
        f"{options['batch_size']}. Accuracy on the test images after the last epoch, mean ± sample standard deviation "
        f"over the seeds; best: mean of each run's best epoch, chosen on the same images. MACs: multiply-accumulates "
        f"of one image. %: of {BASELINE}."
    )
    if steps:
        on = steps["device"]
        if on == "cpu":
            on = f"{counted(steps['threads'], 'thread')} of {machine['processor']}"
        text += (
            f" A step is forward, loss, backward and update of a batch of {steps['batch']} on {on}: median of "
            f"{steps['rounds']} rounds in which the schemes take turns. Peak: all arrays of such a step together."
        )
    return f"{text} {outcome['date'][:10]}, sccengine {outcome['versions']['sccengine']}."
