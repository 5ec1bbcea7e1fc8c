"""Schemes side by side: the same data, recipe and seeds for each, and one outcome that says what each costs and gives.

    DIR/settings.json     what is compared: options, epochs, variants, seeds
    DIR/cells/NAME/       a run directory for each variant and seed (run_directory.py), with failure.json if it failed
    DIR/steps.json        time and memory of a training step of each variant, measured last (step_costs.py)
    DIR/compare.json      the outcome, with compare.md, compare.csv, compare.png and curves.png (comparison_report.py)

The outcome is made anew from the cells each time, so it is never older than they are. A finished cell is not trained
again; one that was cut off goes on from its newest checkpoint; one that failed is tried again when resumed.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from sccengine import backend, data, models
from sccengine.files import remove_if_there, remove_temporaries, write_json
from sccengine.machine import describe_machine, versions
from sccengine.training.comparison_report import write_outcome
from sccengine.training.errors import RUN_FAILURES, RunDirectoryError
from sccengine.training.job import build_model, build_trainer, describe_run, train_quietly
from sccengine.training.lock import lock_run
from sccengine.training.run_directory import RunDirectory, make_folder, refuse_differences
from sccengine.training.step_costs import measure_steps


@dataclass(frozen=True, order=True)
class Variant:
    """A scheme with its settings; those that the scheme does not use are groups 1 and overlap 0."""

    scheme: str
    groups: int = 1
    overlap: float = 0.0

    def __str__(self):
        used = ", ".join(f"{getattr(self, name):g}" for name in models.USES[self.scheme])
        return f"{self.scheme} ({used})" if used else self.scheme

    @property
    def slug(self):
        """Its name in a path."""
        used = [f"{models.SYMBOLS[name]}{getattr(self, name):g}" for name in models.USES[self.scheme]]
        return "-".join([self.scheme, *used])


def variants_of(schemes, groups, overlaps):
    """The Variants of every scheme with every setting that it uses, in order and without repetition."""
    found = []
    for scheme in schemes:
        uses = models.USES[scheme]
        for count in groups if "groups" in uses else (1,):
            found += [Variant(scheme, count, share) for share in (overlaps if "overlap" in uses else (0.0,))]
    return list(dict.fromkeys(found))


class Comparison:
    """Variants of a model, trained with each of the seeds for `epochs` epochs.

    options    those of ``sccengine train`` that all cells share: everything but scheme, groups, overlap, seed, patience
    variants   list of Variant, as `variants_of` makes them
    seeds      list of whole numbers
    data_dir, device   as job.build_trainer has them

    `counts` gives (parameters, multiply-accumulates of one image) by Variant. Raises ValueError for a variant that the
    model or the images do not allow, and what data.load raises.
    """

    def __init__(self, options, epochs, variants, seeds, data_dir=None, device=None):
        self.options = dict(options)
        self.epochs = epochs
        self.variants = list(variants)
        self.seeds = list(seeds)
        self.data_dir = data_dir
        self.device = device
        self.counts = {}
        self._count()

    def cells(self):
        """(Variant, seed) of every cell; seed by seed, so that what is cut short still compares."""
        return [(variant, seed) for seed in self.seeds for variant in self.variants]

    def name(self, variant, seed):
        """The cell's folder under cells/."""
        dataset = "".join(c if c.isalnum() or c in "-_." else "-" for c in self.options["dataset"])
        return f"{self.options['model']}-w{self.options['width']:g}-{variant.slug}-{dataset}-seed{seed}"

    def cell_options(self, variant, seed):
        """The options with which ``sccengine train`` would train the cell."""
        return {**self.options, **asdict(variant), "seed": seed, "patience": None}

    def run(self, out, *, resume=False, rounds=30, say=lambda line: None):
        """Train what is not finished, measure the steps, write the outcome into the folder `out`, and return it.

        resume   go on with what is in `out`; variants and seeds that are there already are compared too
        rounds   timed rounds of steps; 0: measure no steps
        say      called with a line after each cell

        Raises RunDirectoryError if `out` is in use, holds a run, a comparison and `resume` is false, or another one;
        after Ctrl-C, TrainingInterrupted or KeyboardInterrupt when the outcome so far is written. A cell that fails
        does not stop the others: it has status "failed" and its "error" in the outcome's "cells".
        """
        out = Path(out)
        make_folder(out)
        with lock_run(out):
            remove_temporaries(out)
            self._begin(out, resume)
            try:
                for number, (variant, seed) in enumerate(self.cells(), 1):
                    state = self._train_cell(out, variant, seed)
                    say(f"[{number}/{len(self.cells())}] {variant}, seed {seed}: {_in_words(state)}")
                if rounds:
                    self._measure_steps(out, rounds, say)
            finally:
                outcome = self.outcome(out)
                write_outcome(out, outcome, self._histories(out))
        return outcome

    def outcome(self, out):
        """What is known so far, plain values ready for JSON; see comparison_report.py for the summaries."""
        out = Path(out)
        steps = self._read_steps(out) or {"costs": {}}
        cells = []
        for variant, seed in self.cells():
            cells.append({"variant": str(variant), "seed": seed, **self._cell_state(out, variant, seed)})
        return {
            "settings": self._settings(),
            "machine": {**describe_machine(), "threads": backend.num_threads()},
            "versions": versions(),
            "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
            "steps": {key: value for key, value in steps.items() if key != "costs"},
            "variants": [
                {
                    "variant": str(variant),
                    **asdict(variant),
                    "params": self.counts[variant][0],
                    "macs": self.counts[variant][1],
                    "step": steps["costs"].get(str(variant)),
                }
                for variant in self.variants
            ],
            "cells": cells,
        }

    # What is compared

    def _count(self):
        train_set, _ = data.load(self.options["dataset"], self.data_dir)
        for variant in self.variants:
            if variant not in self.counts:
                config = describe_run(self.cell_options(variant, 0), train_set)
                summary = models.summarize(build_model(config), train_set.image_shape)
                self.counts[variant] = summary.params, summary.macs

    def _settings(self):
        return {
            "options": self.options,
            "epochs": self.epochs,
            "variants": [asdict(variant) for variant in self.variants],
            "seeds": self.seeds,
        }

    def _begin(self, out, resume):
        """Write settings.json, or check it and take in the variants and seeds that it has beyond ours."""
        if RunDirectory(out).holds_run():
            raise RunDirectoryError(f"{out} holds a run: choose another folder for a comparison")
        path = out / "settings.json"
        if path.exists():
            saved = read_settings(out)
            if not resume:
                raise RunDirectoryError(
                    f"{out} already holds a comparison: resume it, or choose another folder for a new one"
                )
            shared = {"options": saved["options"], "epochs": saved["epochs"]}
            refuse_differences({"options": self.options, "epochs": self.epochs}, shared, path)
            there = [Variant(**variant) for variant in saved["variants"]]
            self.variants = list(dict.fromkeys([*there, *self.variants]))
            self.seeds = list(dict.fromkeys([*saved["seeds"], *self.seeds]))
            self._count()
        write_json(path, self._settings())

    # Cells

    def _folder(self, out, variant, seed):
        return out / "cells" / self.name(variant, seed)

    def _train_cell(self, out, variant, seed):
        folder = self._folder(out, variant, seed)
        state = self._cell_state(out, variant, seed)
        if state["status"] == "finished":
            return state
        failure = folder / "failure.json"
        remove_if_there(failure)
        try:
            train_quietly(self.cell_options(variant, seed), self.epochs, folder, self.data_dir, self.device)
        except RUN_FAILURES as error:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(failure, {"error": f"{type(error).__name__}: {error}"})
        return self._cell_state(out, variant, seed)

    def _cell_state(self, out, variant, seed):
        """{"status", "epochs"} and the accuracies of a cell, or the "error" that it failed with."""
        folder = self._folder(out, variant, seed)
        directory = RunDirectory(folder)
        history = directory.history()
        failure = folder / "failure.json"
        if failure.exists():
            error = json.loads(failure.read_text(encoding="utf-8"))["error"]
            return {"status": "failed", "epochs": len(history), "error": error}
        # The pictures are the last that a run writes.
        if len(history) < self.epochs or not directory.confusion_picture.exists():
            return {"status": "unfinished" if directory.holds_run() else "not begun", "epochs": len(history)}
        refuse_differences(self.cell_options(variant, seed), directory.read_config()["options"], directory.config)
        best = history.best()
        return {
            "status": "finished",
            "epochs": len(history),
            "accuracy": history[-1]["test_accuracy"],
            "loss": history[-1]["test_loss"],
            "best_accuracy": best["test_accuracy"],
            "best_epoch": best["epoch"],
        }

    def _histories(self, out):
        """[(variant's name, test accuracy by epoch)] of the finished cells."""
        return [
            (str(variant), RunDirectory(self._folder(out, variant, seed)).history()["test_accuracy"])
            for variant, seed in self.cells()
            if self._cell_state(out, variant, seed)["status"] == "finished"
        ]

    # Steps

    def _measure_steps(self, out, rounds, say):
        if self._read_steps(out) is not None:
            return
        say("timing the steps")
        trainers = {
            str(variant): build_trainer(
                self.cell_options(variant, self.seeds[0]), self.epochs, self.data_dir, self.device, progress="quiet"
            )
            for variant in self.variants
        }
        write_json(out / "steps.json", measure_steps(trainers, rounds))

    def _read_steps(self, out):
        """steps.json, or None if it is not there or is not about these variants."""
        try:
            steps = json.loads((out / "steps.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return steps if set(steps["costs"]) == set(map(str, self.variants)) else None


def read_settings(out):
    """What the comparison in the folder `out` compares. Raises RunDirectoryError that names the file."""
    path = Path(out) / "settings.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunDirectoryError(f"{out} holds no comparison: it has no {path.name}") from None
    except ValueError as error:
        raise RunDirectoryError(f"{path}: cannot be read ({error})") from error
    if isinstance(settings, dict) and {"space", "storage"} & set(settings):  # a plan, or where one is
        raise RunDirectoryError(f"{out} holds an exploration: choose another folder for a comparison")
    keys = ("options", "epochs", "variants", "seeds")
    if not isinstance(settings, dict) or any(key not in settings for key in keys):
        raise RunDirectoryError(f"{path}: expected an object with {', '.join(keys)}")
    return settings


def _in_words(state):
    if state["status"] == "finished":
        return f"{state['accuracy']:.2%} right, {state['best_accuracy']:.2%} at best"
    return f"{state['status']}: {state['error']}" if "error" in state else state["status"]
