"""Check, then time, then check again. For each case:

1. every candidate computes the answer for fresh random inputs, and one that is wrong, or fails, is not timed;
2. those left are timed on other inputs, in turns, so that a slow spell of the machine hits all of them;
3. what the last timed call left behind is checked too;
4. a median below the floor of the problem is refused: floor = max(operations / measured GEMM rate,
   bytes / measured bandwidth). Before a refusal the ceilings are measured again.

A time is a median with its 20th and 80th percentile, and the least beside them: on cores that others use too, the
median is mostly theirs, and the least is the best guess at the undisturbed time (or see --clock cpu). A time's noise is
the standard error of the median relative to it, estimated from the spread; sampling goes on until it is below
--max-noise or the time is up. The time of a case is shared equally; a candidate that has spent its share stops with
what it has, but not before three samples.
"""

from __future__ import annotations

import datetime
import os
import time
from dataclasses import dataclass

import numpy as np

from sccengine import backend
from sccengine.bench import machine
from sccengine.bench.case import difference
from sccengine.bench.ceilings import Ceilings
from sccengine.bench.rows import kept, quantiles
from sccengine.bench.timers import CpuTimer, CudaTimer
from sccengine.certify import known_layer

_LEAST_SAMPLES = 3
_CALLS_A_TURN = 5
_RECORDED_OPTIONS = ("min_samples", "max_noise", "timeout", "cache", "threads", "clock")


@dataclass(frozen=True)
class Options:
    """How to measure.

    device        "cpu" or "cuda:<index>"
    min_samples   at least so many warm ones of each candidate, a quarter of it cold
    max_noise     the relative error of a median at which sampling stops
    timeout       seconds for sampling a case
    cache         "warm", "cold" or "both"
    threads       of the CPU kernels and of peers; None: as many as the kernels have
    clock         "wall", or "cpu": this process's processor time, which others cannot lengthen
    seed          of the inputs; None: drawn anew, and kept in the row
    """

    device: str = "cpu"
    min_samples: int = 20
    max_noise: float = 0.02
    timeout: float = 20.0
    cache: str = "both"
    threads: int | None = None
    clock: str = "wall"
    seed: int | None = None

    def __post_init__(self):
        if self.threads is None:
            object.__setattr__(self, "threads", backend.num_threads())
        if self.device == "simulator":
            raise ValueError("device 'simulator' computes with an interpreter: its times mean nothing; use cpu or cuda")
        if self.clock == "cpu" and (self.device != "cpu" or self.threads != 1):
            raise ValueError("--clock cpu adds up all threads and waits, so it needs --device cpu --threads 1")


class Session:
    """One machine, one set of options: what all rows of a run have in common.

    ``ceilings``: a Ceilings; ``set_threads``: called with the number of threads, one for each peer.
    """

    def __init__(self, options, ceilings=None, set_threads=()):
        self.options = options
        for setter in (backend.set_num_threads, *set_threads):
            setter(options.threads)
        self.timer = timer_for(options)
        self.ceilings = ceilings or Ceilings(options.device)
        self.common = {
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "machine": machine.describe(options.device),
            "versions": machine.versions(),
            "options": {name: getattr(options, name) for name in _RECORDED_OPTIONS},
        }

    def measure(self, benchmark, case):
        """Check and time one case of the benchmark of that name; its row."""
        row = measure(case, self.options, self.ceilings, self.timer)
        if case.layer is not None:
            row["certificate"] = known_layer(case.layer, self.options.device)
        return {"benchmark": benchmark, **self.common, **row}


def timer_for(options):
    """The timer of the device, which becomes CuPy's current one if it is a GPU."""
    if options.device == "cpu":
        return CpuTimer(time.perf_counter if options.clock == "wall" else time.process_time)
    import cupy

    cupy.cuda.Device(int(options.device.partition(":")[2] or 0)).use()
    return CudaTimer()


def measure(case, options, ceilings, timer):
    """Check and time one case; its row without the machine's part."""
    fresh = int.from_bytes(os.urandom(4), "little") if options.seed is None else options.seed
    outcome = {c.name: {"side": c.side, "status": "ok"} for c in case.candidates}
    _check_fresh(case, fresh, outcome)
    running = _prepare(case, fresh + 1, outcome)
    seconds = _sample(running, options, timer) if running else {}
    if running:
        _check_last(case, fresh + 1, running, outcome)
    for candidate in case.candidates:
        entry = outcome[candidate.name]
        if entry["status"] == "ok":
            entry.update({mode: kept(times) for mode, times in seconds[candidate.name].items() if times})
            _refuse_below_floor(entry, case, ceilings)
    floors = {mode: case.work.floor(ceilings.values, mode == "cold") for mode in ("warm", "cold")}
    return {
        "case": case.axes,
        "seed": fresh,
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "headline": case.headline if case.headline in _modes(timer, options) else options.cache,
        "work": {"operations": case.work.operations, "bytes": case.work.bytes},
        "floor": floors,
        "ceilings": dict(ceilings.values),
        "candidates": outcome,
    }


def _check_fresh(case, seed, outcome):
    inputs = case.inputs(np.random.default_rng(seed))
    want = case.expected(inputs)
    for candidate in case.candidates:
        try:
            wrong = difference(case.checked(candidate, inputs), want, case.tolerance)
        except Exception as error:  # one competitor's failure must not end the others' run
            outcome[candidate.name]["status"] = f"failed: {type(error).__name__}: {error}"
            continue
        if wrong:
            outcome[candidate.name]["status"] = f"refused, wrong result: {wrong}"


def _prepare(case, seed, outcome):
    inputs = case.inputs(np.random.default_rng(seed))
    return {c.name: Recorded(c.prepare(inputs)) for c in case.candidates if outcome[c.name]["status"] == "ok"}


def _sample(running, options, timer):
    modes = _modes(timer, options)
    seconds = {name: {mode: [] for mode in modes} for name in running}
    spent = dict.fromkeys(running, 0.0)
    share = options.timeout / len(running)
    waiting = list(running)
    while waiting:
        for name in list(waiting):
            started = time.perf_counter()
            for mode in modes:
                times = seconds[name][mode]
                if not _enough(times, mode, options):
                    times += timer.sample(running[name], mode, _calls(times, share, len(modes)))
            spent[name] += time.perf_counter() - started
            tired = spent[name] >= share and all(len(times) >= _LEAST_SAMPLES for times in seconds[name].values())
            if tired or all(_enough(times, mode, options) for mode, times in seconds[name].items()):
                waiting.remove(name)
        waiting = waiting[1:] + waiting[:1]
    return seconds


def _modes(timer, options):
    return [mode for mode in timer.modes if mode not in ("warm", "cold") or options.cache in (mode, "both")]


def _calls(times, share, modes):
    """How many calls make a turn: one at first, then as many as a tenth of the share allows, up to five."""
    if not times:
        return 1
    return max(1, min(_CALLS_A_TURN, int(share / modes / 10 / times[-1])))


def _enough(times, mode, options):
    least = options.min_samples if mode == "warm" else max(_LEAST_SAMPLES, options.min_samples // 4)
    if len(times) < least:
        return False
    return mode != "warm" or quantiles(times)["noise"] <= options.max_noise


def _check_last(case, seed, running, outcome):
    inputs = case.inputs(np.random.default_rng(seed))
    judge = case.last_call
    if judge is None:
        want = case.expected(inputs)

        def judge(_, got):
            return difference(got, want, case.tolerance)

    for candidate in case.candidates:
        if candidate.name in running:
            wrong = judge(inputs, candidate.read(running[candidate.name].last))
            if wrong:
                outcome[candidate.name]["status"] = f"refused, wrong result in the timed calls: {wrong}"


class Recorded:
    """A run() that keeps what its last call returned, for the check after timing, and lets go of it before the next.

    As a training step does: a call that has to find memory beside the last one's results is another, slower one.
    """

    def __init__(self, run):
        self._run = run
        self.last = None

    def __call__(self):
        self.last = None
        self.last = self._run()
        return self.last


def _refuse_below_floor(entry, case, ceilings):
    for mode, cold in (("warm", False), ("cold", True), ("wall", False)):
        if mode not in entry:
            continue
        floor = case.work.floor(ceilings.values, cold)
        if entry[mode]["p50"] < floor:
            floor = case.work.floor(ceilings.again(), cold)
        if entry[mode]["p50"] < floor:
            entry["status"] = (
                f"refused, below the floor: {mode} {entry[mode]['p50'] * 1e3:.4f} ms, "
                f"and {floor * 1e3:.4f} ms is the least this machine can take"
            )
