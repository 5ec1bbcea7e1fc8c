"""Study: an exploration in a folder, or in a database with run directories in a folder.

    DIR/settings.json     the plan (plan.py)
    DIR/journal.jsonl     the newest record of every trial (store.py)
    DIR/trials/0007/      the run directory of a trial (training/run_directory.py); with several trainings a trial, that
                          of the one with seed 2 is DIR/trials/0007/seed-2/
    DIR/workers/          a locked file for each process at work

With a database (postgres.py) plan and records are there, and DIR/settings.json only says where.
"""

from __future__ import annotations

import time
from pathlib import Path

from sccengine import data
from sccengine.exploration.costs import Costs
from sccengine.exploration.objectives import OBJECTIVES
from sccengine.exploration.pareto import front_of
from sccengine.exploration.plan import Plan
from sccengine.exploration.store import FileStore
from sccengine.exploration.worker import Worker
from sccengine.files import write_json
from sccengine.training import RunDirectoryError
from sccengine.training.job import train_quietly
from sccengine.training.run_directory import refuse_differences

_MAY_CHANGE = ("trials",)


class Study:
    """The study in the folder `out`, or of the name `name` in the database `storage` (a postgresql:// URL).

    `begin` starts it, or goes on with what is there; `run` works on it; `trials` and `front` tell what is known.
    """

    def __init__(self, out, storage=None, name=None):
        self.out = Path(out)
        self.storage, self.name = storage, name
        if storage is None:
            storage, self.name = self._pointer()
        if storage is None:
            self.store = FileStore(self.out)
        else:
            from sccengine.exploration.postgres import PostgresStore

            self.name = self.name or self.out.name
            self.store = PostgresStore(storage, self.name)
        self._plan = None

    @property
    def plan(self):
        """The Plan. Raises RunDirectoryError where there is no study yet."""
        if self._plan is None:
            values = self.store.read_plan()
            if values is None:
                raise RunDirectoryError(f"{self.store} holds no exploration: sccengine explore begins one")
            self._plan = Plan.from_dict(values, str(self.store))
        return self._plan

    def exists(self):
        """Whether it was begun."""
        return self.store.read_plan() is not None

    def begin(self, plan):
        """Keep `plan` as that of a new study; where one is, only the number of trials may differ.

        Raises RunDirectoryError naming both values of the first setting that differs.
        """
        values = plan.as_dict()
        while (saved := self.store.read_plan()) != values:
            if saved is not None:
                settled = {name: value for name, value in values.items() if name not in _MAY_CHANGE}
                there = {name: value for name, value in saved.items() if name not in _MAY_CHANGE}
                refuse_differences(settled, there, self.store)
            self.store.begin(values, saved)
        if self.storage is not None:
            self._write_pointer()
        self._plan = plan

    def trials(self):
        """All trials in order, as they are recorded now."""
        return self.store.trials()

    def front(self):
        """The finished trials that no other dominates."""
        return front_of(self.trials(), [OBJECTIVES[name] for name in self.plan.objectives])

    def folder(self, trial):
        """The run directory of a trial, or of that of its trainings which has its seed."""
        folder = self.out / "trials" / f"{trial.number:04}"
        return folder if self.plan.seeds == 1 else folder / f"seed-{trial.seed}"

    def run(self, *, seconds=None, on_trial=lambda trial: None, data_dir=None, device=None, train=None, cost=None):
        """Work on the study until its trials are over, alone or as one of several processes.

        seconds    None, or begin no trial later than so many seconds from now
        on_trial   called with a Trial whenever one of this process's changes: begun, an epoch done, ended
        data_dir   where the data set's files are;  device: as everywhere
        train, cost   see worker.Worker: other things than training and costing may be explored

        Ctrl-C, SIGTERM and SIGHUP raise KeyboardInterrupt or TrainingInterrupted once the trial under way can go on.
        """
        plan = self.plan
        deadline = None if seconds is None else time.monotonic() + seconds
        if cost is None:
            cost = self._costs(data_dir, device)
        if train is None:

            def train(plan, trial, folder, watch):
                return train_quietly(plan.run_options(trial), plan.epochs, folder, data_dir, device, watch)

        Worker(plan, self.store, cost, train, self.folder, on_trial).run(deadline)
        return self.trials()

    def _costs(self, data_dir, device):
        """The function Design -> costs for the images of the plan's data set."""
        plan = self.plan
        train_set, _ = data.load(plan.options["dataset"], data_dir)
        options = {**plan.options, "stem": plan.space.stem}
        return Costs(plan.objectives, options, train_set, device)

    def _pointer(self):
        """(URL, name) of the study in a database that DIR/settings.json speaks of, or (None, None)."""
        saved = FileStore(self.out).read_plan() or {}
        return saved.get("storage"), saved.get("study")

    def _write_pointer(self):
        from sccengine.exploration.postgres import without_password

        self.out.mkdir(parents=True, exist_ok=True)
        write_json(self.out / "settings.json", {"storage": without_password(self.storage), "study": self.name})
