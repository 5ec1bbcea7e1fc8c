"""What a benchmark consists of: cases, of which each has candidates that all compute the same thing, and an oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sccengine import backend
from sccengine.certify import Layer


@dataclass(frozen=True)
class Candidate:
    """One way to compute a case's answer.

    name       shown in tables and rows
    side       "engine", or the peer's name ("pytorch")
    prepare    (inputs: dict of NumPy arrays) -> run; run() does the timed work and returns what ``read`` takes
    read       what run() returned -> dict of arrays by name, NumPy's or where they lie on a GPU, for `difference`
    """

    name: str
    side: str
    prepare: Callable
    read: Callable


@dataclass(frozen=True)
class Work:
    """What a case costs: operations (2 per multiply-accumulate), and bytes that any solution reads plus writes.

    ``shortcut``: by which factor a known algorithm does with fewer operations; the floor allows for it.
    """

    operations: float
    bytes: float
    shortcut: float = 1.0

    def floor(self, ceilings, cold):
        """Seconds below which no solution can be on a machine with these ceilings."""
        bandwidth = ceilings["memory"] if cold else max(ceilings["cache"], ceilings["memory"])
        return max(self.operations / self.shortcut / ceilings["gemm"], self.bytes / bandwidth)


@dataclass(frozen=True)
class Case:
    """One problem.

    axes          dict of plain values that name it, for tables, filters and rows
    inputs        (numpy Generator) -> dict of arrays
    expected      inputs -> dict of float64 arrays; the oracle
    headline      the mode of timing that ratios are made of
    checked       (candidate, inputs) -> dict of arrays for the check; one call of run() unless given
    tolerance     of the check, relative to the largest number of an array; or {name of the array: its tolerance}
    layer         the certify.Layer whose certificate's hash the row carries, None for none
    last_call     (inputs, dict of arrays) -> None or what is wrong, for the last timed call; the oracle unless given
    """

    axes: dict
    candidates: list
    work: Work
    inputs: Callable
    expected: Callable
    tolerance: float | dict = 1e-4
    headline: str = "warm"
    checked: Callable = field(default=lambda candidate, inputs: candidate.read(candidate.prepare(inputs)()))
    last_call: Callable | None = None
    layer: Layer | None = None

    @property
    def name(self):
        return name_of(self.axes)


@dataclass(frozen=True)
class Benchmark:
    """Cases of one kind.

    problems   list of dicts of axes, all with the same names: the cases that are timed by default
    small      the same for a quick look
    case       (axes, device) -> Case with the engine's candidates; ValueError for axes that do not go together
    headline   the candidate that stands for the engine: what users call
    """

    name: str
    problems: list
    small: list
    case: Callable
    headline: str


def name_of(axes):
    """A case's axes in one line."""
    return " ".join(f"{axis}={value}" for axis, value in axes.items())


def difference(got, want, tolerance):
    """None where all arrays agree to their tolerance * max|want|, else one line that says which does not.

    An array on a GPU is compared there: fetched and turned into NumPy's order a large one would take seconds.
    """
    if set(got) != set(want):
        return f"gave {sorted(got)}, expected {sorted(want)}"
    for name, wanted in want.items():
        found = got[name] if backend.is_device_array(got[name]) else np.asarray(got[name])
        if found.shape != np.shape(wanted):
            return f"{name} has shape {found.shape}, expected {np.shape(wanted)}"
        there = backend.to_device(np.asarray(wanted, np.float64), backend.device_of(found))
        error = float(abs(found - there).max()) if found.size else 0.0
        relative = tolerance[name] if isinstance(tolerance, dict) else tolerance
        allowed = relative * max(float(np.max(np.abs(wanted), initial=0.0)), 1e-30)
        if not error <= allowed:
            return f"{name} is off by {error:.3g}, allowed {allowed:.3g}"
    return None
