"""Timing several ways to compute the same thing: how it is done, what follows from it, and where timings are kept.

A record is a dict of plain values:

    key          what was timed, where and with which versions: a dict of plain values, too
    rule         the way that would have been taken without timings
    seconds      {name: seconds of each call}, of all ways that work
    failed       {name: what it failed with}
    operations   arithmetic operations of one call
    date         of the timing

Records lie in one folder, a JSON file each, named by a hash of its key. A file is written beside its place and
renamed, so processes that write at the same time lose nothing. A file that is damaged all the same is set aside with
a warning, and counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np

from sccengine import backend
from sccengine.files import remove_temporaries, write_json

# To be preferred to the rule's, a way must be faster by this part of its time, and by so many times the noise of both.
LEAST_GAIN = 0.03
NOISES = 2.0

LEAST_TURNS, MOST_TURNS = 5, 25
# After n turns, a way is not called again if its least time is above 1 + HOPELESS / n times the fastest, and the
# difference is more than the seconds that a slow spell of the machine may have added.
HOPELESS, SPELL = 4.0, 5e-3
# Elements of float32 that a GPU writes before a timed call: 256 MiB, more than its caches hold, take it some 80 us.
BUSY = 1 << 26


def measure(runs, clock, seconds):
    """(seconds, failed) of calling each of `runs`, {name: function without arguments}, in turns.

    Turns, so that a slow spell of the machine hits all. The first call of each, which may compile, is not counted.
    clock     takes a function and gives the seconds of one call of it
    seconds   after so many, turns end, though not before the LEAST_TURNS-th; the MOST_TURNS-th is the last
    """
    times, failed = {}, {}
    ended = time.monotonic() + seconds
    for name, run in runs.items():
        with _noting(failed, name):
            run()
            times[name] = []
    waiting = list(times)
    for turns in range(1, MOST_TURNS + 1):
        if turns > LEAST_TURNS and time.monotonic() >= ended:
            break
        for name in waiting:
            with _noting(failed, name):
                times[name].append(clock(runs[name]))
        times = {name: taken for name, taken in times.items() if name not in failed}
        fastest = min((min(taken) for taken in times.values()), default=0.0)
        limit = (1 + HOPELESS / turns) * fastest + SPELL
        waiting = [name for name in waiting if name in times and min(times[name]) <= limit]
        waiting = waiting[1:] + waiting[:1]
    return times, failed


@contextmanager
def _noting(failed, name):
    """Whatever a call fails with, too much shared memory or too little of the other kind, is noted and no more."""
    try:
        yield
    except Exception as error:
        failed[name] = f"{type(error).__name__}: {error}"


def median(seconds):
    """The middle of a list of times."""
    return float(np.median(seconds))


def noise(seconds):
    """The standard error of the median relative to it, estimated from the spread."""
    p20, p50, p80 = np.quantile(seconds, (0.2, 0.5, 0.8))
    # For normal errors p80 - p20 is 1.683 sigma and a median's standard error 1.2533 sigma / sqrt(n).
    return float(1.2533 * (p80 - p20) / 1.683 / np.sqrt(len(seconds)) / p50)


def best(record, names):
    """Of `names`, the one with the least median; the rule's unless median and least time both speak clearly against it.

    Where others use the machine too, medians are partly theirs. None where none of the names was timed.
    """
    times = {name: taken for name, taken in record["seconds"].items() if name in names}
    if not times:
        return None
    fastest, rule = min(times, key=lambda name: median(times[name])), record["rule"]
    if rule in times:
        margin = max(LEAST_GAIN, NOISES * (noise(times[rule]) + noise(times[fastest])))
        slower = median(times[rule]) > (1 + margin) * median(times[fastest])
        if not (slower and min(times[rule]) > (1 + LEAST_GAIN) * min(times[fastest])):
            return rule
    return fastest


class HostClock:
    """Wall-clock time of a call that has just been made once, so that its operands are in the caches they fit in.

    Before that the process rests: OpenMP's workers spin for a while after a call, and would take the next one's cores.
    """

    def __init__(self, now=time.perf_counter, rest=0.01):
        self._now, self._rest = now, rest

    def __call__(self, run):
        time.sleep(self._rest)
        run()
        started = self._now()
        run()
        return self._now() - started


class DeviceClock:
    """Time on a GPU between an event before the call's launches and one behind them.

    event      makes one (cupy.cuda.Event)
    elapsed    milliseconds between two
    occupy     keeps the device busy for longer than the host needs to launch the call, so that the device never waits
               for the host; writing to more memory than its caches hold does, and leaves the call's operands in none,
               as the other layers of a training step do
    """

    def __init__(self, event, elapsed, occupy):
        self._event, self._elapsed, self._occupy = event, elapsed, occupy

    def __call__(self, run):
        first, last = self._event(), self._event()
        self._occupy()
        first.record()
        run()
        last.record()
        last.synchronize()
        return self._elapsed(first, last) / 1e3


def clock_for(device):
    """What times a call on a device; RuntimeError for the simulator."""
    if device == "cpu":
        return HostClock()
    if device == "simulator":
        raise RuntimeError("device 'simulator' cannot be tuned for: its times say nothing of a GPU's")
    import cupy

    busy = cupy.empty(BUSY, cupy.float32)
    fill = backend.kernels_for(busy).copy.fill
    return DeviceClock(cupy.cuda.Event, cupy.cuda.get_elapsed_time, lambda: fill(busy, 0.0))


def current(device):
    """A context in which a GPU is CuPy's current device."""
    if not device.startswith("cuda"):
        return nullcontext()
    import cupy

    return cupy.cuda.Device(int(device.partition(":")[2]))


def scratch(device, dtype, *shape):
    """An array of random numbers; a stretch of them is repeated, since making them takes longer than most calls."""
    stretch = np.random.default_rng(0).standard_normal(min(1 << 18, int(np.prod(shape)))).astype(dtype)
    return backend.to_device(np.resize(stretch, shape), device)


class Store:
    """The records in `folder`, which need not exist."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def load(self, key):
        """The record of a key, or None."""
        return self._read(self._path(key))

    def records(self):
        """All of them, in the order of their dates."""
        found = (self._read(path) for path in sorted(self.folder.glob("*.json")))
        return sorted((record for record in found if record), key=lambda record: record["date"])

    def changed(self):
        """A number that is another one after a record was saved or removed."""
        return self.folder.stat().st_mtime_ns if self.folder.is_dir() else 0

    def save(self, record):
        """Keep a record, instead of an earlier one of its key. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._path(record["key"]), record)

    def forget(self):
        """Remove all records, damaged and half-written ones too; how many whole ones there were. Raises OSError."""
        remove_temporaries(self.folder)
        paths = [*self.folder.glob("*.json"), *self.folder.glob("*.damaged")]
        for path in paths:
            path.unlink(missing_ok=True)
        return sum(path.suffix == ".json" for path in paths)

    def _path(self, key):
        text = json.dumps(key, sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"

    def _read(self, path):
        try:
            record = json.loads(path.read_bytes())
            self._check(record, path)
            return record
        except OSError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            aside = path.with_suffix(".damaged")
            with suppress(OSError):
                os.replace(path, aside)
            warnings.warn(f"{path}: a damaged record of timings ({error!r}), set aside as {aside.name}", stacklevel=2)
            return None

    def _check(self, record, path):
        if self._path(record["key"]) != path:
            raise ValueError("its key is not the one of its name")
        for taken in record["seconds"].values():
            if not taken or not all(isinstance(value, float) and value > 0 for value in taken):
                raise ValueError("times must be positive numbers")
        if not all(isinstance(record[name], str) for name in ("rule", "date")) or not record["operations"] > 0:
            raise ValueError("rule, date or operations are not what they should be")
        if not all(isinstance(why, str) for why in record["failed"].values()):
            raise ValueError("failures are not described")
