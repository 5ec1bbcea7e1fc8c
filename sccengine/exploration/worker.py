"""A worker: takes trials of a study one after another, and records what becomes of each. There may be any number.

A trial is claimed in an ``update`` of the store, so that no two workers have the same one, in this order:

    one that is running, but whose worker is dead    taken up from its checkpoint where the folder is shared, else from
                                                     its record, which decides the result all the same
    one that waits                                   left by a worker that was interrupted
    a new one                                        proposed by the sampler and costed; hopeless ones are recorded as
                                                     rejected, and the next is proposed

It ends in another update, unless it is no longer this worker's (it was taken for dead): so every trial ends exactly
once. When nothing is left to claim, a worker waits for the trials of the others: one of them may yet die.
"""

from __future__ import annotations

import time

from sccengine.training.errors import RUN_FAILURES

from .rules import rejection, stopping
from .search import propose
from .trial import Trial

_NOTE = 10.0  # seconds between two records of a running trial
_WAIT = 0.5  # seconds between two looks at what the other workers do
_AT_ONCE = 50  # designs proposed in one update


class Worker:
    """One process's part in a study.

    plan, store    what is searched, and where that is recorded
    cost           function: Design -> {objective: number} of all costs
    train          function like train.train_trial, without the data set and device: (plan, trial, folder, watch) ->
                   history, whose columns "test_accuracy" and "seconds" are used
    folder         function: Trial -> its run directory
    on_trial       called with every Trial that this worker begins (state "running"), after each of its epochs, and
                   when it has ended or was rejected
    """

    def __init__(self, plan, store, cost, train, folder, on_trial=lambda trial: None):
        self.plan, self.store = plan, store
        self.cost, self.train, self.folder, self.on_trial = cost, train, folder, on_trial
        self.name = None

    def run(self, deadline=None):
        """Work until nothing is left to do, or nothing new is to be begun after `deadline` (time.monotonic())."""
        with self.store.enlist() as self.name:
            while True:
                late = deadline is not None and time.monotonic() >= deadline
                claimed, rejected, others = self.store.update(lambda table: self._claim(table, late=late))  # noqa: B023
                for trial in rejected:
                    self.on_trial(trial)
                if claimed is not None:
                    self._work_on(claimed)
                elif not rejected:
                    if late or not others:
                        return
                    time.sleep(_WAIT)

    def _claim(self, table, late):
        """(the trial claimed or None, those rejected on the way, whether other workers have any)."""
        running = [trial for trial in table.values() if trial.state == "running"]
        if late:
            return None, [], bool(running)
        orphans = [trial for trial in running if not self.store.alive(trial.worker)]
        waiting = [trial for trial in table.values() if trial.state == "waiting"]
        for trial in orphans + waiting:
            return table.put(trial.changed(state="running", worker=self.name)), [], True
        rejected = []
        while self._budget_left(table) and len(rejected) < _AT_ONCE:
            trials = list(table.values())
            design = propose(self.plan, trials)
            if design is None:
                break
            values = self.cost(design)
            trial = Trial(len(table), design, "running", values, self.plan.seed, worker=self.name)
            reason = rejection(self.plan, values, trials)
            if reason is None:
                return table.put(trial), rejected, True
            rejected.append(table.put(trial.changed(state="rejected", worker=None, reason=reason)))
        return None, rejected, bool(running)

    def _budget_left(self, table):
        if self.plan.trials is None:
            return True
        return sum(trial.state != "rejected" for trial in table.values()) < self.plan.trials

    def _work_on(self, trial):
        """Train a claimed trial and record its end; an interruption leaves it waiting."""
        self.on_trial(trial)
        watch = _Watch(self, trial)
        try:
            history = self.train(self.plan, trial, self.folder(trial), watch)
        except _Lost:
            return
        except RUN_FAILURES as error:
            done = watch.trial.changed(state="failed", error=f"{type(error).__name__}: {error}")
        except BaseException:
            self._record(watch.trial.changed(state="waiting", worker=None))
            raise
        else:
            done = _with_history(trial, history)
            if done.epochs < self.plan.epochs:
                reason = watch.reason or stopping(self.plan, done, self.store.trials())
                done = done.changed(state="stopped", reason=reason or "ended early")
            else:
                done = done.changed(state="finished")
        if self._record(done):
            self.on_trial(done)

    def _record(self, trial):
        """Whether the new state of this worker's trial was recorded: not if another worker has it by now."""

        def change(table):
            there = table[trial.number]
            ours = there.state == "running" and there.worker == self.name
            if ours:
                table.put(trial)
            return ours

        return self.store.update(change)


class _Lost(Exception):
    """The trial is another worker's by now."""


class _Watch:
    """What a worker does after each epoch of a trial; True ends it."""

    def __init__(self, worker, trial):
        self.worker, self.trial = worker, trial
        self.reason = None
        self._noted = time.monotonic()

    def __call__(self, history):
        self.trial = _with_history(self.trial, history)
        worker = self.worker
        worker.on_trial(self.trial)
        if time.monotonic() - self._noted > _NOTE:
            if not worker._record(self.trial):
                raise _Lost
            self._noted = time.monotonic()
        self.reason = stopping(worker.plan, self.trial, worker.store.trials())
        return self.reason is not None


def _with_history(trial, history):
    """The trial after the epochs of its history."""
    curve = history["test_accuracy"]
    return trial.changed(
        epochs=len(curve),
        curve=curve,
        seconds=round(sum(history["seconds"]), 3),
        values={**trial.values, "accuracy": curve[-1]},
    )
