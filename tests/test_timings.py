"""Timings: taken in turns, judged with their noise, kept so that neither damage nor another process loses any."""

import itertools
import json
import subprocess
import sys
import threading

import pytest

from sccengine import timings


def record(seconds, rule="rule", **key):
    return {
        "key": {"problem": 1, **key},
        "rule": rule,
        "seconds": seconds,
        "failed": {},
        "operations": 10,
        "date": "2026-01-31 10:15:00",
    }


class Scripted:
    """A clock that calls and then says what the script says, one entry a call."""

    def __init__(self, script):
        self.script = {name: iter(times) for name, times in script.items()}
        self.order = []

    def __call__(self, run):
        name = run()
        self.order.append(name)
        return next(self.script[name])


def ways(*names):
    return {name: (lambda name=name: name) for name in names}


def test_turns_change_their_order_and_hopeless_ways_are_dropped():
    steady = itertools.repeat
    clock = Scripted({"a": steady(1.0), "b": steady(1.01), "slow": steady(9.0), "slower": steady(3.1)})
    seconds, failed = timings.measure(ways("a", "b", "slow", "slower"), clock, seconds=60)
    assert failed == {}
    assert {name: len(times) for name, times in seconds.items()} == {"a": 25, "b": 25, "slow": 1, "slower": 2}
    assert clock.order[:4] == ["a", "b", "slow", "slower"] and sorted(clock.order[4:7]) == ["a", "b", "slower"]
    assert clock.order[4] != "a"


def test_a_slow_spell_in_the_first_turn_drops_nobody():
    clock = Scripted({"a": itertools.chain([2e-3], itertools.repeat(7e-5)), "b": itertools.repeat(2e-4)})
    seconds, _ = timings.measure(ways("a", "b"), clock, seconds=60)
    assert {name: len(times) for name, times in seconds.items()} == {"a": 25, "b": 25}


def test_the_first_call_is_not_counted_and_the_budget_ends_turns_but_not_the_first(monkeypatch):
    calls = []
    now = itertools.count(step=10.0)
    monkeypatch.setattr(timings.time, "monotonic", lambda: next(now))
    seconds, _ = timings.measure({"a": lambda: calls.append(1)}, lambda run: run() or 1.0, seconds=1)
    assert len(seconds["a"]) == timings.LEAST_TURNS and len(calls) == timings.LEAST_TURNS + 1


def test_a_way_that_fails_at_once_or_later_is_noted_and_others_go_on():
    def broken():
        raise RuntimeError("65536 bytes of shared memory, but a block has 49152")

    calls = itertools.count()

    def later():
        if next(calls) == 3:
            raise MemoryError
        return "later"

    steady = itertools.repeat(1.0)
    clock = Scripted({"good": steady, "later": steady})
    seconds, failed = timings.measure({"broken": broken, "later": later, **ways("good")}, clock, seconds=60)
    assert list(seconds) == ["good"] and len(seconds["good"]) == 25
    assert failed["broken"].startswith("RuntimeError: 65536") and failed["later"].startswith("MemoryError")
    assert timings.measure({"broken": broken}, clock, seconds=60)[0] == {}


def test_an_interrupt_is_no_failure():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        timings.measure({"a": interrupted}, None, seconds=60)


@pytest.mark.parametrize(
    "rule, other, expected",
    [
        ([1.0] * 5, [0.9] * 5, "other"),
        ([1.0] * 5, [0.98] * 5, "rule"),  # within LEAST_GAIN
        ([0.8, 0.9, 1.0, 1.1, 1.2], [0.9] * 5, "rule"),  # within noise
        ([1.0] * 9 + [50.0], [0.9] * 10, "other"),  # one slow spell moves no median
        ([0.9] + [1.5] * 9, [0.9] * 10, "rule"),  # undisturbed, it is as fast
        ([1.0] * 5, [1.5] * 5, "rule"),
    ],
)
def test_the_rule_stays_unless_something_is_clearly_faster(rule, other, expected):
    assert timings.best(record({"other": other, "rule": rule}), ["rule", "other"]) == expected


def test_best_of_what_is_asked_for():
    known = record({"a": [3.0] * 5, "b": [2.0] * 5, "c": [1.0] * 5})
    assert timings.best(known, ["a", "b"]) == "b" and timings.best(known, ["d"]) is None


def test_noise_is_the_standard_error_of_a_median():
    import numpy as np

    random = np.random.default_rng(0)
    samples = random.normal(100.0, 5.0, (4000, 25))
    measured = np.mean([timings.noise(row) for row in samples])
    assert measured == pytest.approx(np.median(samples, axis=1).std() / 100, rel=0.15)


def test_host_clock_times_the_second_call():
    now, calls = iter([10.0, 10.5]), []
    assert timings.HostClock(lambda: next(now), rest=0)(lambda: calls.append(1)) == 0.5
    assert len(calls) == 2


def test_device_clock_keeps_the_device_busy_before_its_first_event():
    log = []

    class Event:
        def record(self):
            log.append("event")

        def synchronize(self):
            log.append("wait")

    clock = timings.DeviceClock(Event, lambda first, last: 4.0, lambda: log.append("busy"))
    assert clock(lambda: log.append("run")) == 0.004
    assert log == ["busy", "event", "run", "event", "wait"]


def test_the_simulator_has_no_clock():
    with pytest.raises(RuntimeError, match="simulator.*cannot be tuned"):
        timings.clock_for("simulator")


def test_a_record_comes_back_and_a_later_one_replaces_it(tmp_path):
    store = timings.Store(tmp_path / "new" / "folder")
    assert store.load({"problem": 1}) is None and store.records() == [] and store.changed() == 0
    store.save(record({"a": [1.0, 2.0]}))
    store.save(record({"a": [3.0]}))
    store.save(record({"a": [4.0]}, kind="other"))
    assert timings.Store(store.folder).load({"problem": 1})["seconds"] == {"a": [3.0]}
    assert len(store.records()) == 2 and store.changed() > 0
    assert store.forget() == 2 and list(store.folder.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[" * 100_000,
        lambda text: "null",
        lambda text: text.replace("1.0", "-1.0"),
        lambda text: text.replace("1.0", '"1.0"'),
        lambda text: text.replace('"seconds"', '"second"'),
        lambda text: text.replace('"problem": 1', '"problem": 2'),
        lambda text: text.replace('"operations": 10', '"operations": 0'),
        lambda text: text.replace('"rule": "rule"', '"rule": null'),
    ],
)
def test_a_damaged_record_is_set_aside_with_a_warning_and_written_anew(tmp_path, damage):
    store = timings.Store(tmp_path)
    store.save(record({"a": [1.0]}))
    store.save(record({"a": [1.0]}, kind="other"))
    path = store._path({"problem": 1})
    path.write_text(damage(path.read_text()))
    with pytest.warns(UserWarning, match=f"{path.name}: a damaged record of timings.*set aside"):
        assert store.load({"problem": 1}) is None
    assert path.with_suffix(".damaged").exists() and len(store.records()) == 1
    store.save(record({"a": [2.0]}))
    assert store.load({"problem": 1})["seconds"] == {"a": [2.0]}
    assert store.forget() == 2 and list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_raises_and_reads_as_empty(tmp_path):
    (tmp_path / "file").write_text("")
    store = timings.Store(tmp_path / "file" / "tuning")
    with pytest.raises(OSError):
        store.save(record({"a": [1.0]}))
    assert store.load({"problem": 1}) is None and store.records() == [] and store.forget() == 0


def test_a_record_that_cannot_be_written_whole_leaves_the_old_one(tmp_path):
    store = timings.Store(tmp_path)
    store.save(record({"a": [1.0]}))
    with pytest.raises(TypeError):
        store.save(record({"a": [object()]}))
    assert store.load({"problem": 1})["seconds"] == {"a": [1.0]} and len(list(tmp_path.iterdir())) == 1


WRITER = """
import sys
from sccengine import timings
from tests.test_timings import record
store = timings.Store(sys.argv[1])
for i in range(60):
    store.save(record({"a": [float(i + 1)] * 200}, writer=sys.argv[2], number=i))
    store.save(record({"a": [float(i + 1)] * 200}, writer="both"))
"""


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    processes = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name]) for name in ("one", "two")]
    store, broken = timings.Store(tmp_path), []
    done = threading.Event()

    def read():
        while not done.is_set():
            for path in tmp_path.glob("*.json"):
                try:
                    json.loads(path.read_text())
                except ValueError as error:
                    broken.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert [process.wait(120) for process in processes] == [0, 0]
    finally:
        done.set()
        reader.join()
    assert not broken and len(store.records()) == 121
    assert store.load({"problem": 1, "writer": "both"})["seconds"]["a"] == [60.0] * 200
    assert {path.suffix for path in tmp_path.iterdir()} == {".json"}
