"""Time and memory of a training step: forward, cross-entropy, backward and update of one batch already on the device.

Time    Rounds in which each model takes one untimed and one timed step, in an order that moves on by one a round, so
        that whatever else the machine does strikes all alike. Two passes of rounds: their medians say how far a
        repetition can be off. On a GPU a step ends when its loss has been read.
Memory  The peak of all arrays together: parameters, gradients, optimizer, activations, batch apart, and what the engine
        keeps for the next step. On the CPU by Python's own account of allocations (tracemalloc, which NumPy reports
        to), so the interpreter, compiled code and the scratch inside kernels do not count; on a GPU what CuPy's pool
        had to take from the device. Runs agree to about half a percent. `array_bytes` leaves out what is kept, and is
        exact.
"""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc

from sccengine import backend, memory
from sccengine.models.mode import device_of_model
from sccengine.training.job import build_model, build_optimizer
from sccengine.training.stepper import Stepper

_WARM_UP = 3
_PASSES = 2


def measure_steps(trainers, rounds, clock=time.perf_counter):
    """{"device", "threads", "batch", "rounds", "costs": {name: {"p20", "p50", "p80", "passes", "bytes"}}}.

    trainers   name -> Trainer that has not been used and is not used afterwards: its model is trained on one batch
    rounds     of each of the passes, at least 2

    Seconds: percentiles of all timed steps, and the median of each pass. Bytes: the peak.
    """
    batches = {name: next(iter(trainer.train_loader)) for name, trainer in trainers.items()}
    first = next(iter(trainers.values()))
    peaks = {name: peak_bytes(t.config, device_of_model(t.model), batches[name]) for name, t in trainers.items()}
    turns = {
        name: _turn(_stepper(t.model, t.optimizer, t.label_smoothing), batches[name]) for name, t in trainers.items()
    }
    for turn in turns.values():
        for _ in range(_WARM_UP):
            turn()
    passes = [_time_rounds(turns, rounds, clock) for _ in range(_PASSES)]
    costs = {}
    for name in trainers:
        cuts = statistics.quantiles([seconds for part in passes for seconds in part[name]], n=10)
        costs[name] = {
            "p20": cuts[1],
            "p50": cuts[4],
            "p80": cuts[7],
            "passes": [statistics.median(part[name]) for part in passes],
            "bytes": peaks[name],
        }
    return {
        "device": device_of_model(first.model),
        "threads": backend.num_threads(),
        "batch": len(batches[next(iter(trainers))][1]),
        "rounds": _PASSES * rounds,
        "costs": costs,
    }


def array_bytes(config, device, batch):
    """Most bytes of arrays of a run's model (job.py) at once, in its first two steps on `batch`.

    On the CPU an exact account: parameters, statistics, and every array that the engine makes, as long as it lives,
    so it is the same from run to run. On a GPU it is `peak_bytes`.
    """
    if device.startswith("cuda"):
        return peak_bytes(config, device, batch)
    gc.collect()
    with memory.accounting() as account:
        model = _two_steps(config, device, batch)
    kept = [*(parameter.array for parameter in model.parameters()), *model.buffers()]
    return account.peak + sum(array.nbytes for array in kept)


def peak_bytes(config, device, batch):
    """Most bytes that a run's model (job.py) needs at once while it takes its first two steps on `batch`."""

    def two_steps():
        _two_steps(config, device, batch)

    two_steps()  # loads the compiled kernels
    gc.collect()
    if device.startswith("cuda"):
        import cupy

        pool = cupy.get_default_memory_pool()
        pool.free_all_blocks()
        before = pool.total_bytes()
        two_steps()
        return pool.total_bytes() - before
    memory.release()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        two_steps()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def _two_steps(config, device, batch):
    """A model of its own, after two steps."""
    model = build_model(config).to(device)
    optimizer = build_optimizer(config, model)
    turn = _turn(_stepper(model, optimizer, config["options"]["label_smoothing"], capture=False), batch)
    turn()
    turn()
    return model


def _stepper(model, optimizer, label_smoothing, capture="auto"):
    model.train()
    return Stepper(model, optimizer, label_smoothing, capture)


def _turn(stepper, batch):
    """A function that takes one step and waits until it is done."""

    def turn():
        stepper(*batch)
        stepper.tally.read()

    return turn


def _time_rounds(turns, rounds, clock):
    """{name: seconds of its timed step in each round}."""
    names = list(turns)
    seconds = {name: [] for name in names}
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            turns[name]()
            started = clock()
            turns[name]()
            seconds[name].append(clock() - started)
    return seconds
