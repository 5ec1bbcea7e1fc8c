"""Pictures of a run: learning curves and the confusion matrix, as PNG files or as figures for a notebook.

Drawn with Matplotlib's figure objects alone, without pyplot: no window system is asked for and no global state changed.
"""

from __future__ import annotations

import io

import numpy as np

from sccengine.drawing import BLUE, FAINT, INK, ORANGE, tidy
from sccengine.files import write_atomically

TRAIN_COLOUR, TEST_COLOUR = ORANGE, BLUE
_MOST_LABELLED = 30  # more classes than this: no number in the cells


def draw_curves(history, title=""):
    """A figure with the losses and the error rates of every epoch, side by side."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9.6, 3.9), layout="constrained", facecolor="white")
    loss, error = figure.subplots(1, 2)
    epochs = history["epoch"]
    best = history.best()
    for axes, quantity in ((loss, "loss"), (error, "accuracy")):
        for part, colour in (("train", TRAIN_COLOUR), ("test", TEST_COLOUR)):
            values = np.array(history[f"{part}_{quantity}"], float)
            if quantity == "accuracy":
                values = 100 * (1 - values)
            if np.isnan(values).all():
                continue
            axes.plot(epochs, values, color=colour, lw=1.8, marker="o" if len(epochs) < 3 else None, label=part)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.02)
        tidy(axes)
    loss.set_ylabel("cross-entropy")
    loss.set_ylim(bottom=0)
    error.set_ylabel("errors (%)")
    scale_errors(error)
    if best is not None:
        value = 100 * (1 - best["test_accuracy"])
        error.plot([best["epoch"]], [value], "o", color=TEST_COLOUR, ms=6, mec="white", zorder=5, clip_on=False)
        text = f"best: {100 * best['test_accuracy']:.2f} % right, epoch {best['epoch']}"
        error.set_title(text, color=TEST_COLOUR, fontsize=10, loc="right")
    loss.legend(framealpha=1, edgecolor="none", labelcolor=INK)
    if title:
        figure.suptitle(title, color=INK, fontsize=11)
    return figure


def draw_confusion(matrix, class_names, title=""):
    """A figure of the confusion matrix: row = true class, column = predicted class, numbers of images.

    Shades show the share of the row's images, so that classes of different sizes compare; zeros are left blank.
    """
    from matplotlib.figure import Figure

    matrix = np.asarray(matrix)
    count = len(matrix)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(totals, 1)
    labelled = count <= _MOST_LABELLED
    size = float(np.clip(0.48 * count + 1.6, 4.2, 11)) if labelled else 9.0
    figure = Figure(figsize=(size, size), layout="constrained", facecolor="white")
    axes = figure.subplots()
    # The square root lifts a single error out of the white.
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1.15)
    if labelled:
        for i, j in zip(*np.nonzero(matrix)):
            colour = "white" if shares[i, j] > 0.3 else INK
            axes.text(j, i, f"{matrix[i, j]}", ha="center", va="center", color=colour, fontsize=9)
        longest = max(map(len, class_names))
        axes.set_xticks(range(count), class_names, rotation=90 if longest > 3 else 0)
        axes.set_yticks(range(count), class_names)
        axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", lw=1)
    axes.tick_params(which="both", length=0, colors=INK)
    axes.set_xlabel("predicted", color=INK)
    axes.set_ylabel("true", color=INK)
    for spine in axes.spines.values():
        spine.set_color(FAINT)
    right = int(np.trace(matrix))
    axes.set_title(title or f"{right:,} of {int(matrix.sum()):,} right", color=INK, fontsize=11)
    return figure


def scale_errors(axes):
    """The vertical axis for errors in %: logarithmic above 1 %, linear below.

    Late progress is what one wants to see, and no error at all is possible.
    """
    shown = (0, 0.5, 1, 2, 5, 10, 20, 50, 100)
    axes.set_yscale("symlog", linthresh=1, linscale=0.5)
    axes.set_ylim(0, 100)
    axes.set_yticks(shown, map(str, shown))
    axes.minorticks_off()


def save_figure(figure, path):
    """Write `figure` as a PNG file, atomically."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    write_atomically(path, buffer.getvalue())
