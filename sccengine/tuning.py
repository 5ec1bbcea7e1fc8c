"""Which variant of an operator computes a problem: what is known of it, and in which mode more is found out.

    choose("scc", "forward", windows, y, precision) -> a name of kernels.scc.VARIANTS

A variant stands for one compiled configuration, tile included. The first of these that knows the problem decides:

1. a timing on disk, of this launcher, problem, dtype, permitted precision, device (a CPU with its number of threads),
   and versions of kernels and compilers; numbers of columns that round up to the same 2**k or 1.5 * 2**k share one, if
   both or neither divide by 4
2. the table that comes with the package, of devices of the same family (tuning_table.json)
3. the rule of the kernels themselves, kernels.scc.choose, which always answers

What is chosen among: variants that compute this dtype on this device, need no more permission than
set_matmul_precision gave, and always have the same bits. Between two of those the bits differ in the last places, so

* the choice for a problem is made when it is first met, and holds until the process ends or `set_mode` is called;
* a checkpoint of the Trainer keeps the choices made, and a run that is resumed keeps to them: `state`, `resume`;
* `identity` says in one line, in the run's config.json, what else choices depend on: mode, timings and table.

Modes, from SCCENGINE_TUNING or `set_mode`:

"read"     the default: never takes a timing, so a problem's first use costs one look at the disk, every other a dict's
"search"   times all variants when a problem without a timing is first met, unless a step is being captured or the
           device is the simulator, and writes the timings down, as `sccengine tune` does
"off"      the rule only
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import threading
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sccengine import backend, timings
from sccengine.precision import PRECISIONS
from sccengine.tuning_keys import OPERATORS, device_key, family_key, is_current, kernel_versions, size_class

MODES = ("read", "search", "off")
# Those of an operator's launchers for which variants are chosen, each by itself.
LAUNCHERS = ("forward", "backward_input", "backward_weight")
TABLE = Path(__file__).with_name("tuning_table.json")
# For the timings of one problem, in mode "search".
SECONDS = 2.0


def mode_of_environment():
    """SCCENGINE_TUNING, or "read"; ValueError for what is no mode."""
    return _checked(os.environ.get("SCCENGINE_TUNING") or "read", "SCCENGINE_TUNING")


def _checked(mode, name):
    if mode not in MODES:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, MODES))}, got {mode!r}")
    return mode


@dataclass
class Choices:
    """The variants chosen so far: the process's own, or those of one of several runs that go on in turns (`using`)."""

    by_arguments: dict = field(default_factory=dict)  # of `choose`
    by_task: dict = field(default_factory=dict)  # the same by Task.name
    pinned: dict = field(default_factory=dict)  # what a resumed run had chosen, by Task.name

    @classmethod
    def kept(cls, state):
        """No choices yet, held to those in what `state` gave, if that is not None."""
        return cls(pinned=dict(state["choices"]) if state else {})


_mode = {"mode": mode_of_environment()}
_choices = Choices()
_notes = None
_turn = threading.RLock()


def choose(operator, launcher, problem, like, precision):
    """The variant for one of an operator's LAUNCHERS, on rows like those of `like`, (..., M)."""
    key = operator, launcher, problem, like.shape[-1], like.dtype, precision, backend.device_of(like)
    return _choices.by_arguments.get(key) or _decide(key, like)


def _decide(key, like):
    with _turn:
        task = Task(*key, like)
        if _notes is not None:
            _notes.append(task)
            _choices.by_arguments[key] = task.rule
            return task.rule
        name = task.pinned()
        if name is None and get_mode() != "off":
            name = task.timed() or task.search_if_possible() or task.in_table()
        _choices.by_task[task.name] = _choices.by_arguments[key] = name or task.rule
        return _choices.by_arguments[key]


def get_mode():
    """The mode: "read", "search" or "off"."""
    return _mode["mode"]


def set_mode(mode):
    """Set the mode for this process; all choices are made anew, except for those of a resumed run."""
    _mode["mode"] = _checked(mode, "the mode of tuning")
    _choices.by_arguments.clear()
    _choices.by_task.clear()


@contextmanager
def recording():
    """Within it everything follows the rules; it gives the list of the Tasks that are met. For one thread."""
    global _notes
    before, _notes = _notes, []
    try:
        with using(Choices()):
            yield _notes
    finally:
        _notes = before


class Task:
    """A problem to choose a variant for.

    name        text that tells it from all others of its kind of device, as a checkpoint keeps it
    key         what its timings depend on
    rule        the variant that the kernels would choose
    candidates  the variants to choose among
    """

    def __init__(self, operator, launcher, problem, columns, dtype, precision, device, like):
        self.operator, self.launcher, self.problem, self.columns = operator, launcher, problem, columns
        self.dtype, self.device = dtype, device
        self.kernels = getattr(backend.kernels_for(like), operator)
        self.rule = self.kernels.choose(launcher, problem, like, precision)
        allowed = PRECISIONS.index(precision)
        variants = [
            variant
            for variant in self.kernels.VARIANTS.values()
            if variant.deterministic and dtype.name in variant.dtypes and PRECISIONS.index(variant.precision) <= allowed
            if self.kernels.problem(variant.name, like) is None
        ]
        self.candidates = [variant.name for variant in variants]
        used = max((variant.precision for variant in variants), key=PRECISIONS.index)
        self.key = {
            "operator": operator,
            "pass": launcher,
            "problem": {**OPERATORS[operator].describe(problem), "columns": size_class(columns)},
            "dtype": dtype.name,
            "precision": used,
            "device": device_key(device),
            "versions": kernel_versions(device),
        }
        exact = {**self.key["problem"], "columns": columns}
        self.name = json.dumps([operator, launcher, exact, dtype.name, used, device.partition(":")[0]])

    @property
    def operations(self):
        """Arithmetic operations of one call."""
        return OPERATORS[self.operator].operations(self.problem, self.columns)

    def record(self):
        """What is known on disk of its timings, or None."""
        return store().load(self.key)

    def pinned(self):
        """The variant that the resumed run chose, or None."""
        name = _choices.pinned.get(self.name)
        if name is not None and name not in self.candidates:
            _warn(f"the run was begun with variant {name!r}, which cannot be used here: its bits will differ")
            return None
        return name

    def timed(self):
        """The variant that the timings on disk favour, or None."""
        record = self.record()
        return None if record is None else timings.best(record, self.candidates)

    def in_table(self):
        """The variant that the package's table names, or None."""
        name = _table().get(json.dumps(family_key(self.key), sort_keys=True))
        return name if name in self.candidates else None

    def search_if_possible(self):
        """The variant that new timings favour, in mode "search"; None where they cannot be taken."""
        if get_mode() != "search" or self.device == "simulator" or backend.current_capture() or not self.columns:
            return None
        try:
            record = self.search(SECONDS)
        except MemoryError as error:
            _warn(f"no memory for timings of {self.operator} {self.launcher} ({error}): the rule decides")
            return None
        try:
            store().save(record)
        except OSError as error:
            _warn(f"timings cannot be written, and will be lost with this process: {error}")
        return timings.best(record, self.candidates)

    def search(self, seconds):
        """A record of all candidates, timed for so many seconds in all on operands of its own."""
        scratch = functools.partial(timings.scratch, self.device, self.dtype)
        with timings.current(self.device):
            run = OPERATORS[self.operator].call(self.kernels, self.launcher, self.problem, self.columns, scratch)
            runs = {name: functools.partial(run, name) for name in self.candidates}
            times, failed = timings.measure(runs, timings.clock_for(self.device), seconds)
        return {
            "key": self.key,
            "rule": self.rule,
            "seconds": times,
            "failed": failed,
            "operations": self.operations,
            "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        }


# What a run keeps


def identity(device):
    """What choices on a device depend on beside the problem, in one line: mode, timings and table."""
    if get_mode() == "off":
        return "off"
    where = store()
    return f"{get_mode()}, {_knowledge(where.folder, where.changed(), json.dumps(device_key(device)), device)}"


@functools.lru_cache(maxsize=8)
def _knowledge(folder, changed, key, device):
    records = [record for record in timings.Store(folder).records() if is_current(record, device)]
    chosen = [[record["key"], timings.best(record, record["seconds"])] for record in records]
    text = json.dumps([sorted(map(json.dumps, chosen)), sorted(_table().items())])
    return f"{len(records)} problems timed, {hashlib.sha256(text.encode()).hexdigest()[:12]}"


def state(device):
    """What a checkpoint must keep so that the run goes on with the same variants: plain values."""
    return {"identity": identity(device), "choices": {**_choices.pinned, **_choices.by_task}}


def resume(kept, device):
    """Keep to the choices in what `state` gave, and warn if others may differ from what they would have been."""
    _choices.pinned.update(kept["choices"])
    _choices.by_arguments.clear()
    now = identity(device)
    if kept["choices"] and kept["identity"] != now:
        _warn(
            f"not what it was when the run was saved (then {kept['identity']}, now {now}): what it has computed so far "
            "keeps its variants; a problem that is new to it may end in other last bits"
        )


@contextmanager
def using(choices):
    """Within it, choices are made and kept in these Choices: to go through several runs in turns, in one thread."""
    global _choices
    before, _choices = _choices, choices
    try:
        yield
    finally:
        _choices = before


# What is known


def store(name="tuning"):
    """The timings.Store `name` of the cache folder; choices depend on the one called "tuning"."""
    from sccengine.kernels.cache_folder import cache_root

    return timings.Store(cache_root() / name)


@functools.cache
def _table():
    rows = json.loads(TABLE.read_text(encoding="utf-8"))["rows"]
    return {json.dumps(row["for"], sort_keys=True): row["variant"] for row in rows}


def _warn(message):
    warnings.warn(f"tuning: {message}", stacklevel=3)
