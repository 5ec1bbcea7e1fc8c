"""Trainer: trains a model for so many epochs, in a notebook or under the command line, and survives being killed.

    trainer = Trainer(model, optimizer, train_loader, test_loader, schedule=schedules.cosine(30 * len(train_loader)))
    history = trainer.fit(30)

Everything that decides the next bit is in the state that `_state` collects: weights and buffers, optimizer, schedule,
the loader's position, the engine's random numbers, the variants chosen (tuning.py), the sums over the epoch under way,
the history and the best weights so far. A checkpoint is that state, so a run that is killed and resumed ends with the
bits of one that was not.
"""

from __future__ import annotations

import math
import time
import warnings
from contextlib import ExitStack
from itertools import islice

import numpy as np

from sccengine import backend, numeric, tuning
from sccengine.data import Loader, batch_last
from sccengine.models.mode import device_of_model
from sccengine.nn import Module
from sccengine.optim import Optimizer
from sccengine.optim.schedules import Scheduler, constant
from sccengine.training.diagnosis import find_non_finite, first_bad_array
from sccengine.training.digests import digest_all
from sccengine.training.errors import CheckpointError, NonFiniteLossError, RunDirectoryError, TrainingInterrupted
from sccengine.training.evaluation import evaluate, predict
from sccengine.training.history import History
from sccengine.training.interruption import Interruption
from sccengine.training.progress import make_progress
from sccengine.training.run_directory import RunDirectory
from sccengine.training.stepper import Stepper
from sccengine.tuning_keys import kernel_versions
from sccengine.wording import counted

_SCHEDULE_SAMPLES = 64
# What a checkpoint must hold: what `_state` returns but for "tuning", which earlier versions did not keep, and
# "certificate", which is only for the reader.
_STATE = (
    *("model", "optimizer", "scheduler", "schedule", "loader", "random"),
    *("sums", "history", "best", "step", "epochs_done", "planned", "finished"),
)


class Trainer:
    """Trains `model` with `optimizer` on the batches of `train_loader`.

    model, optimizer      an nn.Module on its device, and an optimizer of its parameters; or of some: the others stay as
                          they are (model.trunk.requires_grad_(False) saves the time of their gradients)
    train_loader          a data.Loader
    test_loader           a data.Loader, or None: evaluated after every epoch; decides which weights are the best
    schedule              None, or a function step -> multiplier of the learning rate (optim.schedules)
    label_smoothing       of the training loss, in [0, 1)
    patience              None, or stop after so many epochs without a better test accuracy (of equals: loss)
    out                   None: nothing is written; or the run directory (see run_directory.py for what is in it)
    config                what else describes the run, plain JSON values: saved in config.json, compared on resuming
    checkpoint_steps      None, or a checkpoint also every so many steps within an epoch
    checkpoint_seconds    None, or a checkpoint also every so many seconds within an epoch
    keep                  how many checkpoints are kept, at least 2
    progress              "auto", "terminal", "plain", "notebook" or "quiet"
    capture               whether steps are captured as one graph of launches (capture.py): True, False, or "auto" (see
                          Stepper); the bits are the same, so a run may be begun with and resumed without

    On a GPU nobody waits for a step: losses are read a few times a second, before everything that is saved or shown,
    so a loss that is not finite stops the run some steps late, by the number of its own step.

    `history` is the run so far; `best` its best epoch and weights (None before the first evaluation).
    """

    def __init__(
        self,
        model,
        optimizer,
        train_loader,
        test_loader=None,
        *,
        schedule=None,
        label_smoothing=0.0,
        patience=None,
        out=None,
        config=None,
        checkpoint_steps=None,
        checkpoint_seconds=None,
        keep=3,
        progress="auto",
        capture="auto",
    ):
        for name, value, kind in (
            ("model", model, Module),
            ("optimizer", optimizer, Optimizer),
            ("train_loader", train_loader, Loader),
            ("test_loader", test_loader, Loader),
            ("config", config, dict),
        ):
            absent = value is None and name in ("test_loader", "config")
            if not absent and not isinstance(value, kind):
                raise TypeError(f"Trainer: {name} must be a {kind.__name__}, got {type(value).__name__}")
        own = {id(parameter) for parameter in model.parameters()}
        if not any(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"]):
            raise ValueError(
                "Trainer: the optimizer has none of the model's parameters, so nothing would be trained: make it of "
                "this model's parameters()"
            )
        if patience is not None and test_loader is None:
            raise ValueError("Trainer: patience needs a test_loader to tell whether the model still improves")
        for name, value in (("patience", patience), ("checkpoint_steps", checkpoint_steps)):
            if value is not None:
                numeric.whole("Trainer", name, value)
        if checkpoint_seconds is not None:
            numeric.above_zero("Trainer", "checkpoint_seconds", checkpoint_seconds)
        label_smoothing = numeric.below_one("Trainer", "label_smoothing", label_smoothing)
        if capture not in (True, False, "auto"):
            raise ValueError(f"Trainer: capture must be True, False or 'auto', got {capture!r}")
        self.model = model
        self.optimizer = optimizer
        self.train_loader = train_loader
        self.test_loader = test_loader
        self.schedule = constant() if schedule is None else schedule
        self.scheduler = Scheduler(optimizer, self.schedule)
        self.label_smoothing = label_smoothing
        self.patience = patience
        self.checkpoint_steps = checkpoint_steps
        self.checkpoint_seconds = checkpoint_seconds
        self.capture = capture
        self.progress = make_progress(progress)
        self.directory = None if out is None else RunDirectory(out, keep)
        self.config = config or {}
        self.history = History(self.directory and self.directory.metrics)
        self.best = None
        self.step = 0
        self.epochs_done = 0
        self.finished = None
        self._sums = _new_sums()
        self._planned = None
        self._started = False
        self._interruption = None
        self._stepper = None
        self._last_noted = None

    def fit(self, epochs, resume=False, watch=None):
        """Train until `epochs` epochs are done in all (counting those before), and return the history.

        With a run directory: it must not hold a run yet, unless `resume`, which goes on from its newest usable
        checkpoint (from the beginning if it has none yet). Called again, it goes on from where it is. Going on to more
        epochs than planned is possible where the schedule gives the same learning rates for the steps already planned:
        constant and step schedules do, a cosine laid out for the shorter run does not.

        watch: a function that is called with the history after every epoch but the last; where it returns True the run
        ends there, as a finished one.

        Raises RunDirectoryError (in use, holds a run, contradicts this one), CheckpointError, NonFiniteLossError,
        ValueError for fewer epochs than before, and TrainingInterrupted (a KeyboardInterrupt) after Ctrl-C, SIGTERM or
        SIGHUP, when the state has been saved.
        """
        epochs = numeric.whole("fit", "epochs", epochs)
        with ExitStack() as stack:
            if self.directory is not None:
                stack.enter_context(self.directory.locked())
            self._start(epochs, resume)
            self._make_stepper()
            stack.callback(self._stepper.release)
            self._interruption = stack.enter_context(Interruption())
            self.progress.start(epochs, len(self.train_loader), self.step)
            stack.callback(self.progress.stop)
            if self.finished is not None:
                self.progress.note(f"this run is finished already, after {counted(self.epochs_done, 'epoch')}")
            while self.finished is None:
                self._train_epoch(epochs)
                self._end_epoch(epochs, watch)
            self._write_outcome()
        return self.history

    def begin(self, epochs):
        """Make the run directory of a run of `epochs` epochs, with the state before its first step, and train nothing.

        Weights that the model was given are in that state, so `fit`, here or when the run is resumed, goes on from
        them. Raises RuntimeError without a run directory, and what `fit` raises for one that cannot be used.
        """
        if self.directory is None:
            raise RuntimeError("begin: this trainer has no run directory; give `out`")
        with self.directory.locked():
            self._start(epochs, resume=False)

    def restore(self, epochs, state=None):
        """Go to where a checkpoint's `state` leaves a run of `epochs` epochs, or before its first step.

        For going through a run step by step, with `take_step`; nothing is written. Raises CheckpointError for a
        state that is not a run's.
        """
        self._planned = epochs
        if state is None:
            self.train_loader.rewind(0)
        else:
            self._load(state)
        self._started = True
        self._make_stepper()

    def take_step(self):
        """One optimizer step, as `fit` takes it, without evaluation and files around it; what it came to (Noted)."""
        if self.train_loader.batch == len(self.train_loader):
            self._leave_epoch()
        self.model.train()
        self._clock = time.monotonic()
        images, labels = next(iter(self.train_loader))
        self._train_step(images, labels)
        self._read_back()
        return self._last_noted

    def training_means(self):
        """{"train_loss", "train_accuracy"} of the epoch under way, as its row in the history will have them."""
        sums = self._sums
        return {"train_loss": sums["loss"] / sums["images"], "train_accuracy": sums["right"] / sums["images"]}

    def evaluate(self, loader=None):
        """An Evaluation (loss, accuracy, confusion) of the current weights on `loader`, by default the test loader."""
        loader = self.test_loader if loader is None else loader
        if loader is None:
            raise ValueError("evaluate: this trainer has no test_loader; give a loader")
        return evaluate(self.model, loader)

    def predict(self, images):
        """Class probabilities (N, classes) of images (N, C, H, W).

        uint8 images are prepared as the test loader prepares its own; floating-point ones are taken as prepared.
        """
        images = np.asarray(images)
        if images.dtype == np.uint8:
            if self.test_loader is None:
                raise ValueError("predict: uint8 images need a test_loader, whose transforms prepare them")
            images = batch_last(self.test_loader.transforms(images))
        return predict(self.model, images)

    def load_best(self):
        """Put the best weights of the run so far into the model."""
        if self.best is None:
            raise RuntimeError("load_best: no epoch has been evaluated yet")
        self.model.load_state_dict(self.best["weights"])

    # Starting and resuming

    def _start(self, epochs, resume):
        if self._started:
            self._extend(epochs, self._schedule_samples())
            if self.directory is not None:
                self.directory.note_epochs(epochs)
            return
        state = None
        if self.directory is not None:
            state = self.directory.open(self._config(epochs), resume, warnings.warn)
        if state is None:
            self._planned = epochs
            self.train_loader.rewind(0)
            self._save_checkpoint()
        else:
            self._load(state)
            self._extend(epochs, state["schedule"])
            self.directory.note_epochs(epochs)
            # The process may have died between the checkpoint and the weights.
            self.directory.save_weights(best=self.best)
        self._started = True

    def _make_stepper(self):
        """A new one for each `fit`: model or optimizer may have been moved or replaced since the last."""
        if self._stepper is not None:
            self._read_back()
        inspect = self._inspect if device_of_model(self.model) == "cpu" else None
        self._stepper = Stepper(self.model, self.optimizer, self.label_smoothing, self.capture, inspect)

    def _extend(self, epochs, samples):
        """Plan `epochs` epochs after `_planned` were planned, if the schedule allows it."""
        if epochs < self._planned:
            # Epochs are counted from the first, which fit(1) after fit(2) forgets.
            kind = ValueError if self.directory is None else RunDirectoryError
            raise kind(
                f"this run is planned for {counted(self._planned, 'epoch')}, which cannot become {epochs}: "
                f"all its epochs count, those done before ({self.epochs_done}) too"
            )
        for step, multiplier in samples:
            if self.schedule(step) != multiplier:
                raise RunDirectoryError(
                    f"at step {step}, this run of {counted(self._planned, 'epoch')} has {multiplier:.6g} of the base "
                    f"learning rate, but the schedule for {counted(epochs, 'epoch')} gives {self.schedule(step):.6g}: "
                    f"a run can be extended only under a schedule that does not depend on its length (constant, step)"
                )
        if epochs > self._planned and self.finished == "epochs":
            self.finished = None
        self._planned = epochs

    def _config(self, epochs):
        """What must be the same when the run is resumed, except for `epochs`."""
        groups = [
            {**{key: value for key, value in group.items() if key != "params"}, "lr": rate}
            for group, rate in zip(self.optimizer.param_groups, self.scheduler.base_rates)
        ]
        training = {
            "epochs": epochs,
            "optimizer": type(self.optimizer).__name__,
            "parameter_groups": groups,
            "batch_size": self.train_loader.batch_size,
            "label_smoothing": self.label_smoothing,
            "patience": self.patience,
        }
        # Where a run is started is not compared on resuming; `_load` looks at tuning.
        device = device_of_model(self.model)
        environment = {
            "kernels": kernel_versions(device)["kernels"],
            "tuning": tuning.identity(device),
            "initial_weights": digest_all(self.model.state_dict()),
            **self.config.get("environment", {}),
        }
        return {"training": training, **self.config, "environment": environment}

    def _schedule_samples(self):
        """[[step, multiplier], ...] at steps spread over the planned run: tells one schedule from another."""
        total = self._planned * len(self.train_loader)
        steps = sorted({i * total // _SCHEDULE_SAMPLES for i in range(_SCHEDULE_SAMPLES)})
        return [[step, float(self.schedule(step))] for step in steps]

    def _state(self):
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "schedule": self._schedule_samples(),
            "loader": self.train_loader.state_dict(),
            "random": backend.random_state(),
            "tuning": tuning.state(device_of_model(self.model)),
            "certificate": self.config.get("environment", {}).get("certificate"),
            "sums": self._sums,
            "history": self.history.rows,
            "best": self.best,
            "step": self.step,
            "epochs_done": self.epochs_done,
            "planned": self._planned,
            "finished": self.finished,
        }

    def _load(self, state):
        if missing := [name for name in _STATE if name not in state]:
            raise CheckpointError(
                f"the checkpoint has no {', '.join(missing)}: it was written by another version of sccengine, or is of "
                f"something else than a training run"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.train_loader.load_state_dict(state["loader"])
        backend.set_random_state(state["random"])
        if "tuning" in state:
            tuning.resume(state["tuning"], device_of_model(self.model))
        else:
            warnings.warn(
                "the checkpoint is of a version that did not keep the variants chosen: they are chosen anew, "
                "so what follows may differ in its last bits",
                stacklevel=2,
            )
        self._sums = state["sums"]
        self.history.restore(state["history"])
        self.best = state["best"]
        self.step = state["step"]
        self.epochs_done = state["epochs_done"]
        self.finished = state["finished"]
        self._planned = state["planned"]

    # An epoch

    def _train_epoch(self, epochs):
        self.model.train()
        self._clock = self._last_saved = time.monotonic()
        # Not to the loader's own end, where it would move on: until the evaluation is done, the epoch is not over.
        left = len(self.train_loader) - self.train_loader.batch
        for images, labels in islice(self.train_loader, left):
            self._train_step(images, labels)
            self._stop_if_asked(epochs)
            if self._checkpoint_due():
                self._save_checkpoint()

    def _train_step(self, images, labels):
        self._random_before = backend.random_state()
        self._stepper(images, labels)
        self.scheduler.step()
        self.step += 1
        if self._stepper.tally.due:
            self._read_back()
        self._take_time()

    def _inspect(self, loss, images, labels):
        """In host memory the loss is looked at before it can spoil anything, with the batch at hand."""
        value = loss.item()
        if not math.isfinite(value):
            self._explain_non_finite(value, images, labels)

    def _read_back(self):
        """Add what the steps since the last reading came to; NonFiniteLossError for the first that went wrong."""
        noted = self._stepper.tally.read()
        if not noted:
            return
        sums = self._sums
        for before_last, (loss, right, images) in zip(reversed(range(len(noted))), noted):
            if not math.isfinite(loss):
                self._report_non_finite(loss, self.step - before_last)
            sums["images"] += images
            sums["loss"] += loss * images
            sums["right"] += right
        self._last_noted = noted[-1]
        self.progress.step(
            self.epochs_done + 1, self.step, sums["loss"] / sums["images"], sums["right"] / sums["images"]
        )

    def _end_epoch(self, epochs, watch):
        self._read_back()
        tested = None
        if self.test_loader is not None:
            tested = evaluate(self.model, self.test_loader, lambda: self._stop_if_asked(epochs))
        self._take_time()
        means, seconds = self.training_means(), self._sums["seconds"]
        self._leave_epoch()
        row = {
            "epoch": self.epochs_done,
            "step": self.step,
            **means,
            "test_loss": tested and tested.loss,
            "test_accuracy": tested and tested.accuracy,
            "seconds": round(seconds, 3),
        }
        self.history.append(row)
        is_best = tested is not None and self.history.best() is row
        if is_best:
            self.best = {"epoch": row["epoch"], "weights": self.model.state_dict(), "confusion": tested.confusion}
        if self.epochs_done >= epochs:
            self.finished = "epochs"
        elif self.patience is not None and self.epochs_done - self.best["epoch"] >= self.patience:
            self.finished = "patience"
        elif watch is not None and watch(self.history):
            self.finished = "watch"
        self._save_checkpoint()
        if self.directory is not None:
            self.directory.save_weights(last=self.model.state_dict(), best=self.best if is_best else None)
        self.progress.epoch(row, epochs, is_best)
        if self.finished == "patience":
            self.progress.note(
                f"stopped early: no better epoch than {self.best['epoch']} for {counted(self.patience, 'epoch')}"
            )

    def _leave_epoch(self):
        self._sums = _new_sums()
        self.epochs_done += 1
        self.train_loader.rewind(self.train_loader.epoch + 1)

    def _take_time(self):
        now = time.monotonic()
        self._sums["seconds"] += now - self._clock
        self._clock = now

    # Saving and stopping

    def _checkpoint_due(self):
        by_steps = self.checkpoint_steps is not None and self.step % self.checkpoint_steps == 0
        elapsed = time.monotonic() - self._last_saved
        return by_steps or (self.checkpoint_seconds is not None and elapsed >= self.checkpoint_seconds)

    def _save_checkpoint(self):
        if self.directory is None:
            return
        if self._stepper is not None:
            self._read_back()
        state = self._state()
        if bad := first_bad_array(state["model"]):
            raise NonFiniteLossError(
                f"{bad} is no longer finite after step {self.step}; {self._last_good_state()}", self.step, bad
            )
        self.directory.checkpoints.save(self.step, state)
        self._last_saved = time.monotonic()

    def _stop_if_asked(self, epochs):
        signal = self._interruption.requested
        if signal is None:
            return
        self._read_back()
        where = f"stopped by {signal.name} after step {self.step} (epoch {self.epochs_done + 1})"
        if self.directory is None:
            raise TrainingInterrupted(f"{where}; fit({epochs}) goes on from here", signal)
        self._save_checkpoint()
        self.directory.save_pictures(self.history, self.best)
        place = f"everything is saved in {self.directory.path}, resuming goes on from here"
        raise TrainingInterrupted(f"{where}; {place}", signal)

    def _write_outcome(self):
        if self.directory is None:
            return
        self.directory.save_weights(last=self.model.state_dict(), best=self.best)
        self.directory.save_pictures(self.history, self.best)

    def _explain_non_finite(self, value, images, labels):
        """Run the batch once more, as it was, and raise NonFiniteLossError with the layer that broke."""
        backend.set_random_state(self._random_before)
        layer, sentence = find_non_finite(self.model, lambda: self._stepper.forward(images, labels))
        step = self.step + 1
        raise NonFiniteLossError(
            f"the loss became {value} at step {step} (epoch {self.epochs_done + 1}): {sentence}; "
            f"{self._last_good_state()}",
            step,
            layer,
        )

    def _report_non_finite(self, value, step):
        """Raise NonFiniteLossError for a step whose batch and weights are gone by now."""
        raise NonFiniteLossError(
            f"the loss became {value} at step {step} (epoch {self.epochs_done + 1}), noticed after step {self.step}; "
            f"{self._last_good_state()}; resumed on the CPU, the run would name the layer",
            step,
            None,
        )

    def _last_good_state(self):
        rates = sorted({group["lr"] for group in self.optimizer.param_groups})
        advice = f"a smaller learning rate often helps (now {', '.join(f'{rate:.4g}' for rate in rates)})"
        newest = self.directory and next(iter(self.directory.checkpoints.paths()), None)
        return advice if newest is None else f"{advice}; the last good state is {newest}"


def _new_sums():
    """Sums over the epoch under way."""
    return {"images": 0, "right": 0, "loss": 0.0, "seconds": 0.0}
