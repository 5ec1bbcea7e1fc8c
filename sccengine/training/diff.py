"""Where two recorded runs part: the first step, and the first tensor in it, at which their bits are not the same.

What both recorded is compared first: settings, checkpoints of the same step, rows of metrics.jsonl. That says between
which steps they part, if they do. Those steps are then taken again in both runs, side by side (replay.py), and compared
in the order in which they were computed: batch, outputs of the layers, loss, gradients, weights, the optimizer's
arrays. Where a run has a checkpoint, the record counts: a replay that comes to something else is noted, and goes on
from there.

Runs that cannot be replayed here (another version or device, no GPU, not begun by ``sccengine train``) are compared by
what they recorded alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np

import sccengine
from sccengine.data import DataError
from sccengine.training.digests import describe, difference, same_bits
from sccengine.training.errors import CheckpointError, RunDirectoryError
from sccengine.training.replay import arrays_of, first_difference
from sccengine.training.run_directory import flatten

_NAMES = ("first", "second")
# What differs between any two runs without a meaning for their bits.
_OF_THE_PROCESS = ("environment.started", "environment.process", "environment.data_dir")


@dataclass
class Parting:
    """Where runs part.

    step      the first step whose bits differ; 0: they begin with other weights
    after     the last step after which they are known to be the same, -1: not even the beginning is
    kind      "batch", "output", "loss", "gradient", "weight", "optimizer" or "metrics"
    name      of the tensor, layer, or column of metrics.jsonl
    figures   digests.difference of the two, or the two values; None where there is nothing to compare
    replayed  whether the step was found by replaying it, else by what was recorded: it may be any step after `after`
    """

    step: int
    after: int
    kind: str
    name: str
    figures: dict | None
    replayed: bool

    def __str__(self):
        if self.step == 0:
            where = "at step 0, before any training"
        elif self.replayed or self.step == self.after + 1:
            where = f"at step {self.step}"
        else:
            where = f"between steps {self.after + 1} and {self.step}"
        found = "" if self.figures is None else f": {_figures(self.figures)}"
        return f"they part {where}: {self.kind} {self.name}{found}"


@dataclass
class Difference:
    """What `diff` found.

    settings      {setting: [in the first run, in the second]}, those that differ, "not set" where one has none
    environment   the same of where and with what the runs were made
    parting       a Parting, or None
    same_until    the last step known to be the same in both, -1: none
    ends          the last recorded step of each
    replayed      how many steps of each run were taken again
    notes         sentences
    """

    settings: dict
    environment: dict
    parting: Parting | None = None
    same_until: int = -1
    ends: list = field(default_factory=list)
    replayed: int = 0
    notes: list = field(default_factory=list)

    @property
    def identical(self):
        return self.parting is None and self.ends[0] == self.ends[1] == self.same_until

    def as_dict(self):
        """Plain values, ready for JSON."""
        return {"identical": self.identical, **asdict(self)}


def diff(first, second, *, replay=True):
    """The Difference of two Replays; with replay=False only of what they recorded."""
    pair = (first, second)
    found = Difference(*_settings(first.config, second.config), ends=[run.last_step for run in pair])
    recorded = _recorded(first, second)
    for run in pair:
        if replay and run.environment.get("sccengine") not in (None, sccengine.__version__):
            found.notes += run.caveats
            found.notes.append("only what the runs recorded is compared")
            replay = False
    same = [step for step, parting in recorded.items() if parting is None]
    first_parting = next((parting for parting in recorded.values() if parting), None)
    if first_parting is None and same:
        found.same_until = max(same)
        return found
    first_parting = first_parting and _after(first_parting, same)
    until = min(found.ends) if first_parting is None else first_parting.step
    begin = -1 if first_parting is None else first_parting.after
    if replay:
        try:
            return _side_by_side(pair, found, begin, until, first_parting)
        except (RunDirectoryError, CheckpointError, DataError, RuntimeError, OSError) as error:
            found.notes.append(f"not replayed, so only what the runs recorded is compared: {error}")
    found.parting = first_parting
    found.same_until = begin
    return found


# What was recorded


def _settings(first, second):
    one, other = flatten(first), flatten(second)
    changed = {
        key: [one.get(key, "not set"), other.get(key, "not set")]
        for key in {**one, **other}
        if one.get(key) != other.get(key) and key not in _OF_THE_PROCESS
    }
    environment = {key: values for key, values in changed.items() if key.startswith("environment.")}
    return {key: values for key, values in changed.items() if key not in environment}, environment


def _recorded(first, second):
    """{step: Parting or None} of all steps of which both recorded the same kind of thing, in order."""
    found = {}
    for step in sorted({*first.checkpoints, *first.rows} & {*second.checkpoints, *second.rows}):
        if step in first.checkpoints and step in second.checkpoints:
            states = first.recorded(step), second.recorded(step)
            if None not in states:
                one, other = (arrays_of(state["model"], state["optimizer"]) for state in states)
                found[step] = _first_array(one, other, step, _kind_of_array)
        if step in first.rows and step in second.rows and found.get(step) is None:
            found[step] = _metrics(first.rows[step], second.rows[step])
    return found


def _metrics(one, other):
    for name in one:
        if name != "seconds" and one[name] != other.get(name):
            figures = {"values": [one[name], other.get(name)]}
            return Parting(one["step"], -1, "metrics", f"{name} of epoch {one['epoch']}", figures, False)
    return None


def _after(parting, same):
    parting.after = max((step for step in same if step < parting.step), default=-1)
    return parting


# Step by step


def _side_by_side(pair, found, begin, until, recorded):
    """Take the steps after `begin` up to `until` again in both runs and find where they part."""
    start = max(begin, 0)
    for run in pair:
        run.seek(start)
    caveats = [f"{caveat} ({name} run)" for run, name in zip(pair, _NAMES) for caveat in run.caveats]
    found.notes += caveats
    if begin < 0 and (parting := _first_array(*(run.state() for run in pair), 0, _kind_of_array)):
        parting.replayed = True
        found.parting = parting
        return found
    found.same_until = start
    for step in range(start + 1, until + 1):
        observed = [run.observe(step) for run in pair]
        found.replayed += 1
        parting = _first_of_step(*observed)
        records = [_keep_to_record(run, step, name, found.notes) for run, name in zip(pair, _NAMES)]
        parting = parting or _first_array(*records, step, _kind_of_array)
        if parting is not None:
            # Where replays are not the runs, they tell nothing of the steps between two records.
            parting.replayed, parting.after = not caveats, start if caveats else step - 1
            found.parting = parting
            return found
        found.same_until = step
    if recorded is not None:
        found.notes.append(f"up to step {until} the replays of both are the same, though not what was recorded")
        found.parting = recorded
    return found


def _keep_to_record(run, step, name, notes):
    """The arrays after `step`: of the checkpoint, where there is one; a replay that came to others goes on from it."""
    state = run.recorded(step) if step in run.checkpoints else None
    if state is None:
        return run.state()
    recorded = arrays_of(state["model"], state["optimizer"])
    if differs := first_difference(run.state(), recorded):
        notes.append(f"{run.checkpoints[step].name} of the {name} run is not what its replay comes to: {differs}")
        run.adopt(step, state)
    return recorded


def _first_of_step(one, other):
    """The first thing of a step that is not the same, in the order in which it was computed."""
    batch = [dict(indices=step.indices, labels=step.labels) for step in (one, other)]
    losses = [{"of the batch": np.float64(step.loss).reshape(())} for step in (one, other)]
    return (
        _first_array(*batch, one.step, "batch")
        or _first_output(one, other)
        or _first_array(*losses, one.step, "loss")
        or _first_array(one.gradients, other.gradients, one.step, "gradient")
        or _first_array(one.weights, other.weights, one.step, "weight")
    )


def _first_output(one, other):
    for (name, array), (other_name, other_array) in zip(one.activations, other.activations):
        if name != other_name:
            return Parting(one.step, -1, "output", f"{name} (there is {other_name} in its place)", None, True)
        if not same_bits(array, other_array):
            return Parting(one.step, -1, "output", name, difference(array, other_array), True)
    return None


def _first_array(one, other, step, kind):
    for name in {**one, **other}:
        label = kind if isinstance(kind, str) else kind(name)
        if name not in one or name not in other:
            here = "first" if name in one else "second"
            return Parting(step, -1, label, f"{name} (only in the {here} run)", None, False)
        if not same_bits(one[name], other[name]):
            return Parting(step, -1, label, name, difference(one[name], other[name]), False)
    return None


def _kind_of_array(name):
    return "optimizer" if name.startswith("optimizer.") else "weight"


def _figures(figures):
    if set(figures) == {"values"}:
        return f"{figures['values'][0]!r} and {figures['values'][1]!r}"
    return describe(figures)
