"""The folder of a run, and the only code that knows what lies where in it.

    config.json        what the run is; "environment" says where it was started, the rest must not change
    metrics.jsonl      one object an epoch (history.py)
    checkpoints/       the last few states of the run (checkpoint.py)
    last.safetensors   weights after the last finished epoch, by state-dict key
    best.safetensors   weights of the best epoch
    curves.png         loss and errors by epoch
    confusion.json     {"epoch", "classes", "matrix"} of the best epoch; matrix[true][predicted] is a number of images
    confusion.png      the same as a picture
    certificate.json   if the run was certified (cli/certify.py)
    conversion.json    if the run began with converted weights (interop/conversion.py)
    run.lock           held by the process that writes here (lock.py)

Written at the end of a run, and made anew by resuming a finished one: the pictures. Everything else is up to date after
every epoch, and follows from the newest checkpoint if it is lost.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from pathlib import Path

import sccengine
from sccengine.files import remove_temporaries, write_json
from sccengine.training.checkpoint import CheckpointFolder, save_weights
from sccengine.training.errors import CheckpointError, RunDirectoryError
from sccengine.training.history import History, read_history
from sccengine.training.lock import lock_run

_MAY_DIFFER = ("environment", "training.epochs")


class RunDirectory:
    """The run directory at `path`, which need not exist yet; `keep` checkpoints are kept."""

    def __init__(self, path, keep=3):
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.metrics = self.path / "metrics.jsonl"
        self.last = self.path / "last.safetensors"
        self.best = self.path / "best.safetensors"
        self.curves_picture = self.path / "curves.png"
        self.confusion = self.path / "confusion.json"
        self.confusion_picture = self.path / "confusion.png"
        self.certificate = self.path / "certificate.json"
        self.conversion = self.path / "conversion.json"
        self.checkpoints = CheckpointFolder(self.path / "checkpoints", keep)

    def holds_run(self):
        """Whether a run was ever begun here."""
        return self.config.exists() or self.metrics.exists() or bool(self.checkpoints.paths())

    @contextmanager
    def locked(self):
        """Make the folder and hold its lock. Raises RunDirectoryError if it cannot be made or is in use."""
        make_folder(self.path)
        with lock_run(self.path):
            yield

    def open(self, config, resume, warn):
        """Begin the run described by `config` (state None), or give the state to resume it from (with the lock held).

        Raises RunDirectoryError if a run is here and `resume` is false, or if it is a different run; CheckpointError if
        none of its checkpoints is usable.
        """
        remove_temporaries(self.path)
        if not self.holds_run():
            if (self.path / "settings.json").exists():
                raise RunDirectoryError(
                    f"{self.path} holds a comparison or an exploration: choose another folder for a run"
                )
            self._begin(config)
            return None
        if not resume:
            raise RunDirectoryError(
                f"{self.path} already holds a run: resume it, or choose another folder for a new one"
            )
        saved = self.read_config()
        refuse_differences(_plain(config), saved, self.config)
        found = self.checkpoints.load_newest(warn)
        if found is None:
            if self.metrics.exists():
                raise CheckpointError(
                    f"{self.path} has metrics but no checkpoint in {self.checkpoints.path.name}/: "
                    f"the run cannot be resumed; nothing was changed"
                )
            return None
        return found[1]

    def read_config(self, *sections):
        """What config.json holds, which must have `sections`: "data", or "data.mean" for an entry of one.

        Raises RunDirectoryError that names the file and what is wrong with it, or missing.
        """
        try:
            config = json.loads(self.config.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunDirectoryError(f"{self.path} is no run directory: it has no {self.config.name}") from None
        except (OSError, ValueError) as error:
            raise RunDirectoryError(f"{self.config}: cannot be read ({error})") from error
        if not isinstance(config, dict):
            raise RunDirectoryError(f"{self.config}: expected an object, found {type(config).__name__}")
        if missing := [section for section in sections if not _holds(config, section)]:
            raise RunDirectoryError(
                f"{self.config}: has no {', '.join(missing)}: not begun by sccengine train, so only the program that "
                f"began it knows the rest"
            )
        return config

    def history(self):
        """The History in metrics.jsonl, without rows where no epoch is over."""
        return read_history(self.metrics) if self.metrics.exists() else History()

    def note_epochs(self, epochs):
        """Record in config.json that the run is planned for `epochs` epochs from now on."""
        config = self.read_config()
        if config["training"]["epochs"] != epochs:
            config["training"]["epochs"] = epochs
            write_json(self.config, config)

    def save_weights(self, last=None, best=None):
        """Write last.safetensors from a state dict and best.safetensors from a Trainer's record, if given."""
        if last is not None:
            save_weights(self.last, last)
        if best is not None:
            save_weights(self.best, best["weights"], {"epoch": best["epoch"]})

    def save_pictures(self, history, best):
        """Draw the curves and the confusion matrix of `best`, if there is anything to draw."""
        from sccengine.training.plots import draw_confusion, draw_curves, save_figure

        if len(history):
            save_figure(draw_curves(history, self._title()), self.curves_picture)
        if best is not None:
            matrix = best["confusion"]
            names = self.read_config().get("data", {}).get("class_names") or [str(i) for i in range(len(matrix))]
            record = {"epoch": best["epoch"], "classes": names, "matrix": matrix.tolist()}
            write_json(self.confusion, record)
            right = f"epoch {best['epoch']}: {int(matrix.trace()):,} of {int(matrix.sum()):,} right"
            save_figure(draw_confusion(matrix, names, right), self.confusion_picture)

    def _begin(self, config):
        environment = {
            "sccengine": sccengine.__version__,
            "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
            "process": os.getpid(),
        }
        config = {**config, "environment": {**environment, **config.get("environment", {})}}
        try:
            write_json(self.config, config)
        except OSError as error:
            raise RunDirectoryError(error.strerror or str(error)) from error

    def _title(self):
        config = self.read_config()
        model, data = config.get("model", {}), config.get("data", {})
        parts = [model.get("name"), model.get("scheme"), data.get("dataset")]
        return ", ".join(part for part in parts if part)


def make_folder(path):
    """Make the folder of a run, a comparison or an exploration. Raises RunDirectoryError where that cannot be."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirectoryError(f"cannot make the folder {path}: {error.strerror}") from error


def refuse_differences(config, saved, path):
    """RunDirectoryError naming both values of the first setting that differs."""
    here, there = flatten(config), flatten(saved)
    for key in [*here, *there]:
        if key.startswith(_MAY_DIFFER):
            continue
        if here.get(key) != there.get(key):
            raise RunDirectoryError(
                f"{key} is {there.get(key, 'not set')!r} in {path} and {here.get(key, 'not set')!r} now: "
                f"a run can only be resumed as it was begun"
            )


def flatten(value, prefix=""):
    """{"a": {"b": 1}} as {"a.b": 1}; lists likewise, by position."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return {prefix: value}
    flat = {}
    for key, item in items:
        flat |= flatten(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _holds(config, section):
    """Whether the keys in `section`, joined by dots, lead to something."""
    for key in section.split("."):
        if not isinstance(config, dict) or key not in config:
            return False
        config = config[key]
    return True


def _plain(value):
    """`value` as it comes back from JSON: tuples become lists."""
    return json.loads(json.dumps(value))
