"""Replay: a recorded run gone through again in memory, to the bit. The run's folder is only read.

    replay = Replay("runs/digits")
    step = replay.observe(1234)      # the 1234th optimizer step: its batch, loss, gradients, updates
    replay.confirm()                 # goes on to the next thing that the run recorded, and compares

It starts from the newest checkpoint before the step that is kept and whole, else from the run's beginning, which seed
and config give. Random numbers are counter-based and kernels are the variants that the run chose, so the bits are the
run's, on the same kind of device with the same version; `caveats` says where these are others.

Steps count from 1 over the whole run; step 0 is the state before the first.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager

import numpy as np

import sccengine
from sccengine import backend, numeric, tuning
from sccengine.models.mode import device_of_model, leaves, watched
from sccengine.training.checkpoint import CHECKPOINT_FORMAT, read_file
from sccengine.training.digests import describe, difference, digest_all, same_bits
from sccengine.training.errors import CheckpointError, RunDirectoryError
from sccengine.training.evaluation import evaluate
from sccengine.training.job import build_trainer
from sccengine.training.replayed_step import ReplayedStep
from sccengine.training.run_directory import RunDirectory
from sccengine.tuning_keys import kernel_versions


class Replay:
    """The run in the folder `run`, standing after `step` steps.

    make_trainer  a function () -> the Trainer, without `out`, that began the run; None: what config.json describes, as
                  ``sccengine train`` wrote it
    device        None: that of the run
    data_dir      None: that of the run
    warn          called with a sentence for every damaged checkpoint that is passed over

    Raises RunDirectoryError where `run` holds no run, or one that config.json does not describe in full.
    """

    def __init__(self, run, make_trainer=None, device=None, data_dir=None, warn=warnings.warn):
        self.directory = RunDirectory(run)
        described = () if make_trainer else ("options", "training", "environment")
        self.config = self.directory.read_config(*described)
        self.environment = self.config.get("environment", {})
        self.checkpoints = self.directory.checkpoints.by_step()
        self.rows = {row["step"]: row for row in self.directory.history()}
        self.step = None
        self.origin = None
        self._warn = warn
        self._make_trainer = make_trainer or self._trainer_of_config(device, data_dir)
        self._trainer = None
        self._random = backend.random_state()
        self._choices = tuning.Choices.kept(self._newest().get("tuning"))

    @property
    def last_step(self):
        """The last step of which anything is recorded; 0 for a run that was begun and no more."""
        return max([0, *self.checkpoints, *self.rows])

    @property
    def caveats(self):
        """Sentences on why bits may be others than the run's; of device and kernels only after `seek`."""
        found = []
        made, here = self.environment.get("sccengine"), sccengine.__version__
        if made not in (None, here):
            found.append(f"the run was made by sccengine {made}, this is {here}")
        if self._trainer is None:
            return found
        begun, device = self.environment.get("device"), device_of_model(self._trainer.model)
        if begun not in (None, device):
            found.append(f"the run was made on {begun}, this is {device}")
        elif self.environment.get("kernels") not in (None, kernel_versions(device)["kernels"]):
            found.append("the run was made with other sources of the kernels than are here")
        return found

    def seek(self, step):
        """Stand after `step` steps, from where it stands or from a nearer checkpoint."""
        self._check(step)
        behind = self.step is not None and self.step <= step
        for start in sorted((s for s in self.checkpoints if s <= step), reverse=True):
            if behind and start <= self.step:
                break
            if (state := self.recorded(start)) is not None:
                self.adopt(start, state)
                behind = True
                break
        if not behind:
            self._begin()
        while self.step < step:
            self.advance()

    def advance(self):
        """Take one step; what it came to: (loss, right predictions, images)."""
        with self._at_work():
            noted = self._trainer.take_step()
        self.step += 1
        return noted

    def observe(self, step):
        """The ReplayedStep of optimizer step `step`, after which it stands then; 0: the state before the first."""
        self._check(step)
        if step == 0:
            self.seek(0)
            return ReplayedStep(0, weights=self._trainer.model.state_dict())
        if self.step != step - 1:
            self.seek(step - 1)
        trainer, loader = self._trainer, self._trainer.train_loader
        epoch, batch = loader.epoch, loader.batch
        if batch == len(loader):
            epoch, batch = epoch + 1, 0
        before = trainer.model.state_dict()
        rates = sorted({group["lr"] for group in trainer.optimizer.param_groups})
        outputs = []

        def see(name, module, inputs, output):
            outputs.append((name, output.array))

        with watched(leaves(trainer.model), see):
            noted = self.advance()
        indices = loader.indices(epoch, batch)
        gradients = {
            name: np.array(parameter.grad.numpy(), order="C")
            for name, parameter in trainer.model.named_parameters()
            if parameter.grad is not None
        }
        return ReplayedStep(
            step,
            epoch=epoch + 1,
            batch=batch + 1,
            rates=rates,
            loss=noted.loss,
            right=noted.right,
            indices=indices,
            labels=np.asarray(loader.dataset.labels)[indices],
            before=before,
            gradients=gradients,
            weights=trainer.model.state_dict(),
            activations=[(name, backend.to_host(array)) for name, array in outputs],
        )

    def state(self):
        """The arrays that decide what follows, by name: weights and buffers in graph order, then the optimizer's."""
        return arrays_of(self._trainer.model.state_dict(), self._trainer.optimizer.state_dict())

    def recorded(self, step):
        """The state in the checkpoint of step `step`; None, and a warning, where it is damaged."""
        try:
            return read_file(self.checkpoints[step], CHECKPOINT_FORMAT)
        except CheckpointError as error:
            self._warn(f"{error}; it is passed over")
            return None

    def adopt(self, step, state):
        """Stand where the state of a checkpoint stands."""
        with self._at_work():
            if self._trainer is None:
                self._trainer = self._make_trainer()
            self._trainer.restore(state["planned"], state)
        self.step = self.origin = step

    def confirm(self):
        """Go on to the next step of which the run recorded something, and compare to the bit.

        A dict: "step", "with" (names of the files), "agrees", and "differs", a sentence, None where it agrees. None
        where nothing is recorded from here on.
        """
        later = [step for step in {*self.checkpoints, *self.rows} if step >= self.step and step > self.origin]
        for step in sorted(later):
            state = self.recorded(step) if step in self.checkpoints else None
            if state is None and step not in self.rows:
                continue
            while self.step < step:
                self.advance()
            return self._compared(step, state)
        return None

    def _compared(self, step, state):
        files, differs = [], None
        if state is not None:
            files.append(f"checkpoints/{self.checkpoints[step].name}")
            differs = first_difference(self.state(), arrays_of(state["model"], state["optimizer"]))
        if step in self.rows:
            files.append(self.directory.metrics.name)
            differs = differs or self._compare_row(self.rows[step])
        return {"step": step, "with": files, "agrees": differs is None, "differs": differs}

    def _compare_row(self, row):
        with self._at_work():
            found = self._trainer.training_means()
            if row["test_loss"] is not None and self._trainer.test_loader is not None:
                tested = evaluate(self._trainer.model, self._trainer.test_loader)
                found |= {"test_loss": tested.loss, "test_accuracy": tested.accuracy}
        for name, value in found.items():
            if value != row[name]:
                return f"{name} of epoch {row['epoch']} is {value!r} in the replay, {row[name]!r} in the record"
        return None

    # Beginnings

    def _begin(self):
        with self._at_work():
            self._trainer = self._make_trainer()
            self._trainer.restore(self.config["training"]["epochs"])
        begun = self.environment.get("initial_weights")
        if begun not in (None, digest_all(self._trainer.model.state_dict())):
            raise RunDirectoryError(
                f"{self.directory.path} did not begin with the weights that its seed gives here (it was converted, or "
                f"given its weights, or made by another version), and no checkpoint early enough is kept: the earliest "
                f"step that can be replayed is {min(self.checkpoints, default=self.last_step) + 1}"
            )
        self.step = self.origin = 0

    def _trainer_of_config(self, device, data_dir):
        def make():
            try:
                return build_trainer(
                    self.config["options"],
                    self.config["training"]["epochs"],
                    data_dir or self.environment.get("data_dir"),
                    device or self.environment.get("device"),
                    progress="quiet",
                    capture=False,
                )
            except (KeyError, TypeError) as error:
                raise RunDirectoryError(
                    f"{self.directory.config}: does not describe a run of this version ({error!r})"
                ) from error

        return make

    def _newest(self):
        for step in sorted(self.checkpoints, reverse=True):
            if (state := self.recorded(step)) is not None:
                return state
        return {}

    def _check(self, step):
        if numeric.whole("replay", "step", step, least=0) > self.last_step:
            raise ValueError(
                f"{self.directory.path} is recorded up to step {self.last_step}, there is no step {step} in it"
            )

    @contextmanager
    def _at_work(self):
        """This run's random numbers and variants, instead of the process's, until it is done."""
        outside = backend.random_state()
        backend.set_random_state(self._random)
        with tuning.using(self._choices):
            try:
                yield
            finally:
                self._random = backend.random_state()
                backend.set_random_state(outside)


def arrays_of(model, optimizer):
    """{name: array} of two state dicts: the model's as they are, the optimizer's as "optimizer.<parameter>.<name>"."""
    arrays = dict(model)
    for index, entries in optimizer["state"].items():
        for name, value in entries.items():
            arrays[f"optimizer.{index}.{name}"] = np.asarray(value)
    return arrays


def first_difference(found, recorded):
    """A sentence on the first array in order that is not the same to the bit, or None."""
    if list(found) != list(recorded):
        odd = sorted(set(found) ^ set(recorded)) or list(found)
        return f"{odd[0]} is not in both, or in another place"
    for name, array in found.items():
        if not same_bits(array, recorded[name]):
            return f"{name}: {describe(difference(array, recorded[name]))}"
    return None
