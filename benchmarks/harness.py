"""Check, then time: what every bench_<stem>.py shares.

A benchmark is a list of Cases. A Case has Candidates, which all compute the same thing, and an oracle. For each case:

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

Rows of --json: one per case, each with machine, versions, date, and everything that is needed to run it again.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import machine
import numpy as np
from timers import CpuTimer, CudaTimer

_LEAST_SAMPLES = 3
_CALLS_A_TURN = 5
_RECORDED_OPTIONS = ("min_samples", "max_noise", "timeout", "cache", "threads", "clock")


@dataclass(frozen=True)
class Candidate:
    """One way to compute a case's answer.

    name       shown in tables and rows
    side       "engine", or the peer's name ("pytorch")
    prepare    (inputs: dict of NumPy arrays) -> run; run() does the timed work and returns what ``read`` takes
    read       what run() returned -> dict of NumPy arrays by name, compared with the oracle's
    """

    name: str
    side: str
    prepare: Callable
    read: Callable


@dataclass(frozen=True)
class Work:
    """The least that any solution must do: operations (2 per multiply-accumulate), and bytes read plus written."""

    operations: float
    bytes: float

    def floor(self, ceilings, cold):
        """Seconds below which no solution can be on a machine with these ceilings."""
        bandwidth = ceilings["memory"] if cold else max(ceilings["cache"], ceilings["memory"])
        return max(self.operations / ceilings["gemm"], self.bytes / bandwidth)


@dataclass(frozen=True)
class Case:
    """One problem.

    axes          dict of plain values that name it, for tables, filters and rows
    inputs        (numpy Generator) -> dict of arrays
    expected      inputs -> dict of float64 arrays; the oracle
    checked       (candidate, inputs) -> dict of arrays for the check; one call of run() unless given
    last_call     (inputs, dict of arrays) -> None or what is wrong, for the last timed call; the oracle unless given
    """

    axes: dict
    candidates: list
    work: Work
    inputs: Callable
    expected: Callable
    tolerance: float = 1e-4
    headline: str = "warm"
    checked: Callable = field(default=lambda candidate, inputs: candidate.read(candidate.prepare(inputs)()))
    last_call: Callable | None = None

    @property
    def name(self):
        return " ".join(f"{axis}={value}" for axis, value in self.axes.items())


def difference(got, want, tolerance):
    """None where all arrays agree to tolerance * max|want|, else one line that says which does not."""
    if set(got) != set(want):
        return f"gave {sorted(got)}, expected {sorted(want)}"
    for name, wanted in want.items():
        found = np.asarray(got[name], dtype=np.float64)
        if found.shape != np.shape(wanted):
            return f"{name} has shape {found.shape}, expected {np.shape(wanted)}"
        error = float(np.max(np.abs(found - wanted), initial=0.0))
        allowed = tolerance * max(float(np.max(np.abs(wanted), initial=0.0)), 1e-30)
        if not error <= allowed:
            return f"{name} is off by {error:.3g}, allowed {allowed:.3g}"
    return None


def quantiles(seconds):
    """Median with spread of a list of times: {"least", "p20", "p50", "p80", "samples", "noise"}."""
    p20, p50, p80 = (float(q) for q in np.quantile(seconds, (0.2, 0.5, 0.8)))
    # For normal errors p80 - p20 is 1.683 sigma and a median's standard error 1.2533 sigma / sqrt(n).
    noise = 1.2533 * (p80 - p20) / 1.683 / math.sqrt(len(seconds)) / p50
    least = float(min(seconds))
    return {"least": least, "p20": p20, "p50": p50, "p80": p80, "samples": len(seconds), "noise": noise}


class Ceilings:
    """The machine's ceilings, measured on first use; ``again`` measures once more and keeps the best of each."""

    def __init__(self, device, measure=machine.ceilings):
        self.device = device
        self._measure = measure
        self._values = None

    @property
    def values(self):
        if self._values is None:
            self._values = dict(self._measure(self.device))
        return self._values

    def again(self):
        self._values = {name: max(value, self.values[name]) for name, value in self._measure(self.device).items()}
        return self._values


def measure(case, options, ceilings, timer):
    """Check and time one case; its row without the machine's part."""
    fresh = int.from_bytes(os.urandom(4), "little") if options.seed is None else options.seed
    outcome = {c.name: {"side": c.side, "status": "ok"} for c in case.candidates}
    _check_fresh(case, fresh, outcome)
    running = _prepare(case, fresh + 1, outcome)
    seconds = _sample(running, case, options, timer) if running else {}
    if running:
        _check_last(case, fresh + 1, running, outcome)
    for candidate in case.candidates:
        entry = outcome[candidate.name]
        if entry["status"] == "ok":
            entry.update({mode: quantiles(times) for mode, times in seconds[candidate.name].items() if times})
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


def _sample(running, case, options, timer):
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
    """A run() that keeps what its last call returned, for the check after timing."""

    def __init__(self, run):
        self._run = run
        self.last = None

    def __call__(self):
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


# Ratios


def times(row, side, statistic="p50"):
    """Seconds in a row's headline mode by candidate of one side, refused and failed ones left out."""
    return {
        name: entry[row["headline"]][statistic]
        for name, entry in row["candidates"].items()
        if entry["side"] == side and entry["status"] == "ok" and row["headline"] in entry
    }


def ratio(row, engine, statistic="p50", peer="pytorch"):
    """Best peer's time over the engine candidate's: above 1 the engine is faster; None where either is missing."""
    mine, theirs = times(row, "engine", statistic).get(engine), times(row, peer, statistic)
    return min(theirs.values()) / mine if mine and theirs else None


def geometric_mean(values):
    """exp of the mean log; None of nothing."""
    values = [v for v in values if v is not None]
    return math.exp(sum(math.log(v) for v in values) / len(values)) if values else None


# Command line and output


def parser(description):
    """The options that every benchmark has."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    result.add_argument("--list", action="store_true", help="print the cases and candidates that would run, and stop")
    result.add_argument(
        "--axis",
        action="append",
        default=[],
        metavar="NAME=VALUE[,VALUE]",
        help="only cases whose axis has one of these values; may be repeated",
    )
    result.add_argument("--only", action="append", default=[], metavar="GLOB", help="only these candidates")
    result.add_argument("--min-samples", type=_positive_int, default=20, help="at least so many (default 20)")
    result.add_argument("--max-noise", type=float, default=0.02, help="relative error of a median (default 0.02)")
    result.add_argument("--timeout", type=float, default=20.0, metavar="S", help="sampling of a case in seconds (20)")
    result.add_argument("--cache", choices=("warm", "cold", "both"), default="both")
    result.add_argument("--threads", type=_positive_int, default=machine.cores(), help="on the CPU (all cores)")
    result.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: this process's processor time, which others cannot lengthen; with --device cpu --threads 1 only",
    )
    result.add_argument("--seed", type=int, help="of the inputs (default: drawn anew, and kept in the row)")
    result.add_argument("--json", type=Path, metavar="FILE", help="write one row per case, after each case")
    return result


def _positive_int(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def select(cases, options):
    """The cases and candidates that --axis and --only leave; ValueError for a filter that names nothing."""
    for condition in options.axis:
        axis, equals, wanted = condition.partition("=")
        known = sorted({name for case in cases for name in case.axes})
        if not equals or axis not in known:
            raise ValueError(f"--axis {condition!r}: give NAME=VALUE with a NAME of {', '.join(known)}")
        cases = [case for case in cases if str(case.axes[axis]) in wanted.split(",")]
    for case in cases:
        if options.only:
            case.candidates[:] = [
                c for c in case.candidates if any(fnmatch.fnmatchcase(c.name, glob) for glob in options.only)
            ]
    cases = [case for case in cases if case.candidates]
    if not cases:
        raise ValueError("no case is left after --axis and --only; --list shows what there is")
    return cases


def timer_for(options):
    """The timer of the device; RuntimeError, saying what is missing, where there is none."""
    if options.clock == "cpu" and (options.device != "cpu" or options.threads != 1):
        raise RuntimeError("--clock cpu adds up all threads and waits, so it needs --device cpu --threads 1")
    if options.device == "cpu":
        return CpuTimer(time.perf_counter if options.clock == "wall" else time.process_time)
    from sccengine import backend

    backend.resolve_device(options.device)
    return CudaTimer()


def run(benchmark, cases, options, output=sys.stdout):
    """Measure all cases, print each, write --json after each; the rows. ``benchmark`` is the script's name."""
    _use_threads(options.threads)
    timer = timer_for(options)
    ceilings = Ceilings(options.device)
    common = {
        "benchmark": benchmark,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine.describe(options.device),
        "versions": machine.versions(),
        "options": {name: getattr(options, name) for name in _RECORDED_OPTIONS},
    }
    _print_machine(common["machine"], ceilings.values, output)
    rows = []
    for case in cases:
        rows.append({**common, **measure(case, options, ceilings, timer)})
        print_row(rows[-1], output)
        if options.json:
            write_json(options.json, rows)
    return rows


def _use_threads(count):
    """The same number of threads for every competitor that is loaded."""
    from sccengine import backend

    backend.set_num_threads(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def _print_machine(described, peak, output):
    name = described.get("gpu") or described["processor"]
    print(
        f"{name}, {described['cores']} cores. Measured ceilings: {peak['gemm'] / 1e9:.0f} GFLOP/s, "
        f"memory {peak['memory'] / 1e9:.1f} GB/s, cache {peak['cache'] / 1e9:.0f} GB/s",
        file=output,
    )


def main(parser, options, benchmark, cases, summarize):
    """A benchmark's command line: 0, 1 where a candidate failed or was refused or the device is missing, 2 for usage.

    ``cases`` () -> list of Cases; ``summarize`` (rows) prints what stands at the end.
    """
    try:
        chosen = select(cases(), options)
    except ValueError as error:
        parser.error(str(error))
    if options.list:
        for case in chosen:
            print(f"{case.name}: {', '.join(c.name for c in case.candidates)}")
        return 0
    try:
        rows = run(benchmark, chosen, options)
    except RuntimeError as error:
        print(f"{benchmark}: {error}", file=sys.stderr)
        return 1
    summarize(rows)
    bad = [name for row in rows for name, entry in row["candidates"].items() if entry["status"] != "ok"]
    return 1 if bad else 0


def write_json(path, value):
    """Write a JSON file so that it is never half there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    partial.replace(path)


def print_row(row, output=sys.stdout):
    """A case as a small table: milliseconds, spread, and how many times the floor."""
    floor = row["floor"]
    name = " ".join(f"{axis}={value}" for axis, value in row["case"].items())
    print(f"\n{name}   floor {floor['warm'] * 1e3:.3f} ms warm, {floor['cold'] * 1e3:.3f} ms cold", file=output)
    load, cores = row["load"], row["machine"]["cores"]
    if load and load[0] > cores + 1 and row["options"]["clock"] == "wall":
        print(f"  (load {load[0]:.1f} on {cores} cores: others' work is in these times)", file=output)
    for candidate, entry in row["candidates"].items():
        print(f"  {candidate:<36} {_times_text(entry, floor)}", file=output, flush=True)


def _times_text(entry, floor):
    if entry["status"] != "ok":
        return entry["status"]
    parts = []
    for mode in ("warm", "cold", "wall", "host"):
        if mode not in entry:
            continue
        stats = entry[mode]
        spread = " ".join(f"{stats[name] * 1e3:.3f}" for name in ("least", "p20", "p80"))
        text = f"{mode} {stats['p50'] * 1e3:8.3f} ms [{spread}]"
        if mode != "host":
            text += f" {stats['p50'] / floor['cold' if mode == 'cold' else 'warm']:5.1f}x floor"
        parts.append(text)
    return "   ".join(parts)
