"""What a run shows while it goes: a bar in a terminal, a line an epoch elsewhere, a table in a notebook, or nothing."""

from __future__ import annotations

import html
import sys
import time

_HEADING = f"{'epoch':>9}  {'train loss':>10}  {'accuracy':>9}  {'test loss':>10}  {'accuracy':>9}  {'seconds':>8}"
_REFRESH = 0.25  # seconds between two updates of a notebook's output
STYLES = ("auto", "terminal", "plain", "notebook", "quiet")


def make_progress(style="auto"):
    """The progress display of that name; "auto" looks where the output goes."""
    if style not in STYLES:
        raise ValueError(f"progress must be one of {', '.join(map(repr, STYLES))}, got {style!r}")
    if style == "auto":
        style = "notebook" if _in_notebook() else "terminal" if sys.stdout and sys.stdout.isatty() else "plain"
    return {"terminal": Terminal, "plain": Plain, "notebook": Notebook, "quiet": Progress}[style]()


class Progress:
    """Shows nothing; the base of the others. Between `start` and `stop` come steps, epochs and notes."""

    def start(self, epochs, steps_per_epoch, steps_done):
        """`epochs` are to be run in all, of `steps_per_epoch` optimizer steps; `steps_done` are behind us."""

    def step(self, epoch, step, loss, accuracy):
        """A step is done: `step` steps in all, the last one in `epoch`; means over the epoch so far."""

    def epoch(self, row, epochs, is_best):
        """An epoch is done: its row of the history."""

    def note(self, text):
        """Something worth a line."""

    def stop(self):
        """The last call."""


class Plain(Progress):
    """A line an epoch."""

    def __init__(self):
        self._heading_due = True

    def epoch(self, row, epochs, is_best):
        if self._heading_due:
            print(_HEADING)
            self._heading_due = False
        print(_line(row, epochs, is_best), flush=True)

    def note(self, text):
        print(text, flush=True)


class Terminal(Progress):
    """A line an epoch, and under them a bar with the time that is left."""

    def start(self, epochs, steps_per_epoch, steps_done):
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._epochs = epochs
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            TextColumn("{task.fields[state]}"),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            transient=True,
        )
        self._console = self._bar.console
        self._task = self._bar.add_task(
            "starting", total=epochs * steps_per_epoch, completed=steps_done, state="compiling or loading kernels"
        )
        self._heading_due = True
        self._bar.start()

    def step(self, epoch, step, loss, accuracy):
        self._bar.update(
            self._task,
            completed=step,
            description=f"epoch {epoch}/{self._epochs}",
            state=f"loss {loss:.3f}  accuracy {accuracy:.1%}",
        )

    def epoch(self, row, epochs, is_best):
        if self._heading_due:
            self._print(_HEADING, "dim")
            self._heading_due = False
        self._print(_line(row, epochs, is_best), "bold" if is_best else None)

    def note(self, text):
        self._print(text, None)

    def stop(self):
        self._bar.stop()

    def _print(self, text, style):
        self._console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


class Notebook(Progress):
    """One output that is rewritten in place: the rows so far and the state of the epoch under way."""

    def start(self, epochs, steps_per_epoch, steps_done):
        from IPython.display import display

        self._epochs = epochs
        self._lines = [_HEADING]
        self._state = "compiling or loading kernels"
        self._shown = 0.0
        self._handle = display({"text/plain": ""}, raw=True, display_id=True)

    def step(self, epoch, step, loss, accuracy):
        self._state = f"epoch {epoch}/{self._epochs}: loss {loss:.3f}  accuracy {accuracy:.1%}"
        if time.monotonic() - self._shown > _REFRESH:
            self._show()

    def epoch(self, row, epochs, is_best):
        self._lines.append(_line(row, epochs, is_best))
        self._show()

    def note(self, text):
        self._lines.append(text)
        self._show()

    def stop(self):
        self._state = ""
        self._show()

    def _show(self):
        self._shown = time.monotonic()
        text = "\n".join([*self._lines, self._state]).rstrip()
        page = f"<pre style='line-height: 1.25'>{html.escape(text)}</pre>"
        self._handle.update({"text/plain": text, "text/html": page}, raw=True)


def _line(row, epochs, is_best):
    def cell(value, width, form):
        return f"{'-' if value is None else format(value, form):>{width}}"

    line = "  ".join(
        [
            f"{row['epoch']:>4}/{epochs:<4}",
            cell(row["train_loss"], 10, ".4f"),
            cell(row["train_accuracy"], 9, ".2%"),
            cell(row["test_loss"], 10, ".4f"),
            cell(row["test_accuracy"], 9, ".2%"),
            cell(row["seconds"], 8, ".2f"),
        ]
    )
    return line + ("  best" if is_best else "")


def _in_notebook():
    """True in a Jupyter kernel, whose shell can rewrite its output."""
    ipython = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"
