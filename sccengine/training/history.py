"""The history of a run: one row an epoch, in memory and, if there is a run directory, in ``metrics.jsonl``.

    {"epoch": 3, "step": 66, "train_loss": 0.61, "train_accuracy": 0.95, "test_loss": 0.12, "test_accuracy": 0.98,
     "seconds": 0.41}

epoch counts from 1, step is the number of optimizer steps so far, accuracies are fractions, losses are means over the
images (the training loss is the one optimised, label smoothing included, over the images as augmented while the weights
changed; the test loss is plain cross-entropy), seconds is the time of the epoch, evaluation included. The test values
are null where there is no test set.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from sccengine.files import write_atomically
from sccengine.training.errors import RunDirectoryError
from sccengine.wording import counted

FIELDS = ("epoch", "step", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds")


class History:
    """Rows (dicts with FIELDS) in order. ``history["test_accuracy"]`` is a column, ``history[-1]`` a row."""

    def __init__(self, path=None):
        self.path = None if path is None else Path(path)
        self.rows = []

    def append(self, row):
        """Add a row, and a line to the file, on the disk when this returns."""
        self.rows.append(row)
        if self.path is None:
            return
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OSError(error.errno, f"cannot write {self.path}: {error.strerror}") from error

    def restore(self, rows):
        """Go back to `rows`: the file is rewritten, whatever it held (later rows, or a line cut short)."""
        self.rows = [dict(row) for row in rows]
        if self.path is not None:
            write_atomically(self.path, "".join(json.dumps(row) + "\n" for row in self.rows))

    def best(self):
        """The row with the highest test accuracy, of equals the lowest test loss; None if there is none."""
        tested = [row for row in self.rows if row["test_accuracy"] is not None]
        return max(tested, key=lambda row: (row["test_accuracy"], -row["test_loss"]), default=None)

    def __len__(self):
        return len(self.rows)

    def __iter__(self):
        return iter(self.rows)

    def __getitem__(self, key):
        return [row[key] for row in self.rows] if isinstance(key, str) else self.rows[key]

    def __repr__(self):
        best = self.best()
        text = "" if best is None else f", best test accuracy {best['test_accuracy']:.4f} in epoch {best['epoch']}"
        return f"History({counted(len(self), 'epoch')}{text})"


def read_history(path):
    """A History from a metrics file. A last line that was cut short is left out; another bad line is an error."""
    path = Path(path)
    history = History()
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            if number == len(lines):
                break
            row = None
        if not isinstance(row, dict) or any(field not in row for field in FIELDS):
            raise RunDirectoryError(f"{path}, line {number}: expected an object with {', '.join(FIELDS)}")
        history.rows.append(row)
    return history
