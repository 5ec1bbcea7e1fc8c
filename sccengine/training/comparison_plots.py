"""Pictures of a comparison: what accuracy costs, and how it was learned. Colours after Okabe and Ito, and one marker a
scheme, so that nothing depends on telling colours apart."""

from __future__ import annotations

import numpy as np

from sccengine.drawing import INK, OKABE_ITO, tidy
from sccengine.training.plots import scale_errors

_COLOURS = (INK, *(OKABE_ITO[name] for name in ("blue", "vermilion", "purple", "green", "orange", "sky")))
_MARKERS = ("s", "o", "v", "^", "D", "P", "X")


def draw_tradeoff(rows, title=""):
    """A figure of accuracy by parameters and by multiply-accumulates, from comparison_report.summary_rows.

    Bars are one standard deviation to each side. Variants without a finished cell are left out.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure = Figure(figsize=(10, 4.6), layout="constrained", facecolor="white")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, quantity, label in zip(panels, ("params", "macs"), ("parameters", "multiply-accumulates of one image")):
        for index, row in enumerate(rows):
            if row["accuracy_mean"] is None:
                continue
            axes.errorbar(
                row[quantity] * _apart(rows, index, quantity),
                100 * row["accuracy_mean"],
                yerr=None if row["accuracy_sd"] is None else 100 * row["accuracy_sd"],
                label=row["variant"],
                **_style(index),
                ms=8,
                mec="white",
                lw=1.6,
                capsize=4,
                ls="none",
            )
        axes.set_xscale("log")
        values = [row[quantity] for row in rows]
        axes.set_xlim(min(values) / 1.35, max(values) * 1.35)
        axes.set_xticks(ticks(min(values) / 1.35, max(values) * 1.35))
        axes.xaxis.set_major_formatter(FuncFormatter(short))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.minorticks_off()
        crowded = any(_apart(rows, index, quantity) != 1 for index in range(len(rows)))
        axes.set_xlabel(f"{label} (equal ones side by side)" if crowded else label)
        tidy(axes)
    panels[0].set_ylabel("test accuracy, last epoch (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5), frameon=False)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def draw_learning(histories, title=""):
    """A figure of test errors by epoch from [(variant's name, accuracies)]: mean and range of a variant's runs."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 4.6), layout="constrained", facecolor="white")
    axes = figure.subplots()
    for index, name in enumerate(dict.fromkeys(name for name, _ in histories)):
        errors = 100 * (1 - np.array([accuracies for other, accuracies in histories if other == name]))
        epochs = np.arange(1, errors.shape[1] + 1)
        style = _style(index)
        axes.plot(epochs, errors.mean(axis=0), **style, label=name, lw=1.8, ms=6, mec="white", markevery=0.12)
        axes.fill_between(epochs, errors.min(axis=0), errors.max(axis=0), color=style["color"], alpha=0.12, lw=0)
    scale_errors(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.02)
    axes.set_xlabel("epoch")
    axes.set_ylabel("test errors (%): mean and range over seeds")
    axes.legend(frameon=False)
    tidy(axes)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def _style(index):
    return {"color": _COLOURS[index % len(_COLOURS)], "marker": _MARKERS[index % len(_MARKERS)]}


def _apart(rows, index, quantity):
    """A factor near 1 that moves variants of nearly the same cost side by side, where bars would cover each other."""
    same = [i for i, row in enumerate(rows) if abs(row[quantity] / rows[index][quantity] - 1) < 0.01]
    return 1 + 0.04 * (same.index(index) - (len(same) - 1) / 2)


def ticks(low, high):
    """1, 2 and 5 times powers of ten within the bounds."""
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    return [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]


def short(value, _=None):
    """20000 as 20k, 1500000 as 1.5M."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:g}{letter}"
    return f"{value:g}"
