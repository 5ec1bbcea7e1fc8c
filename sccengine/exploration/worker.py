"""A worker: takes trials of a study one after another, and records what becomes of each. There may be any number.

A trial is claimed in an ``update`` of the store, so that no two workers have the same one, in this order:

    one that is running, but whose worker is dead    taken up from its checkpoint where the folder is shared, else from
                                                     its record, which decides the result all the same
    one that waits                                   left by a worker that was interrupted
    a new one                                        proposed by the sampler and costed; hopeless ones are recorded as
                                                     rejected, and the next is proposed

A trial is as many trainings as the plan has seeds, one after another. Its accuracy is the mean of those that came to
their last epoch; until one has, the last that was seen. It ends in another update, unless it is no longer this worker's
(it was taken for dead): so every trial ends exactly once. When nothing is left to claim, a worker waits for the trials
of the others: one of them may yet die.
"""

from __future__ import annotations

import math
import time
from statistics import fmean

from sccengine.exploration.rules import rejection, stopping
from sccengine.exploration.search import propose
from sccengine.exploration.trial import Trial
from sccengine.training.errors import RUN_FAILURES

_NOTE = 10.0  # seconds between two records of a running trial
_WAIT = 0.5  # seconds between two looks at what the other workers do
_AT_ONCE = 50  # designs proposed in one update


class Worker:
    """One process's part in a study.

    plan, store    what is searched, and where that is recorded
    cost           function: Design -> {objective: number} of all costs
    train          function: (plan, trial, folder, watch) -> history of one training with the trial's seed, of which the
                   columns "test_accuracy" and "seconds" are used; `watch` as training.job.train_quietly has it
    folder         function: Trial -> the run directory of the training with its seed
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
            for seed in range(trial.seed, trial.seed + self.plan.seeds):
                training = trial.changed(seed=seed)
                watch.keep(self.train(self.plan, training, self.folder(training), watch))
                if watch.reason:
                    break
        except _Lost:
            return
        except RUN_FAILURES as error:
            done = watch.trial.changed(state="failed", error=f"{type(error).__name__}: {error}")
        except BaseException:
            self._record(watch.trial.changed(state="waiting", worker=None))
            raise
        else:
            done = watch.trial.changed(state="stopped" if watch.reason else "finished", reason=watch.reason)
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
    """What a worker does after each epoch of a trial; True ends its training.

    trial    as it is by now;  reason: why it is to end early, or None
    """

    def __init__(self, worker, trial):
        self.worker = worker
        self.trial = trial
        self.reason = None
        self._whole = []  # the histories of trainings that are over
        self._noted = time.monotonic()

    def __call__(self, history):
        self._see([*self._whole, history])
        self._look()
        return self.reason is not None

    def keep(self, history):
        """Take in a training that is over."""
        self._whole.append(history)
        self._see(self._whole)
        plan = self.worker.plan
        if len(history["test_accuracy"]) < plan.epochs:
            self.reason = self.reason or self._stopping() or "ended early"
        elif len(self._whole) < plan.seeds:
            self._look()

    def _see(self, histories):
        curves = [history["test_accuracy"] for history in histories]
        ends = [curve[-1] for curve in curves if len(curve) == self.worker.plan.epochs]
        self.trial = self.trial.changed(
            epochs=sum(map(len, curves)),
            curves=curves,
            seconds=round(math.fsum(second for history in histories for second in history["seconds"]), 3),
            values={**self.trial.values, "accuracy": fmean(ends or curves[0][-1:])},
        )

    def _look(self):
        """Tell of an epoch, note it now and then, and ask whether there should be more."""
        worker = self.worker
        worker.on_trial(self.trial)
        if time.monotonic() - self._noted > _NOTE:
            if not worker._record(self.trial):
                raise _Lost
            self._noted = time.monotonic()
        self.reason = self._stopping()

    def _stopping(self):
        return stopping(self.worker.plan, self.trial, self.worker.store.trials())
