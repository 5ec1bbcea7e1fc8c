"""Tuning among the CUDA variants: what may be chosen, and that a captured step keeps to what the eager one chose."""

import numpy as np
import pytest

import sccengine.functional as F
from sccengine import ChannelWindows, Tensor, capture_step, nn, set_matmul_precision, timings, tuning
from sccengine.backend import SimulatorArray
from sccengine.kernels.cuda import scc

WINDOWS = ChannelWindows.sliding(8, 8, 2, 0.5)
LIKE = np.empty((8, 8), np.float32).view(SimulatorArray)


@pytest.fixture(autouse=True)
def store(monkeypatch, tmp_path):
    monkeypatch.setattr(tuning, "store", lambda: timings.Store(tmp_path / "tuning"))
    tuning.set_mode("read")
    yield tuning.store()
    tuning.set_mode("read")


def task(dtype="float32", precision="highest", launcher="forward"):
    with tuning.recording() as tasks:
        tuning.choose("scc", launcher, WINDOWS, LIKE.astype(dtype), precision)
    return tasks[0]


def test_candidates_are_what_the_permission_and_the_dtype_allow():
    exact, high, medium = (set(task(precision=p).candidates) for p in ("highest", "high", "medium"))
    assert exact < high < medium
    assert {scc.VARIANTS[name].precision for name in medium} == {"highest", "high", "medium"}
    assert {scc.VARIANTS[name].precision for name in exact} == {"highest"}
    assert "direct_output_centric" not in medium, "atomics"
    double = task("float64", "medium")
    assert all("float64" in scc.VARIANTS[name].dtypes for name in double.candidates)
    assert double.key["precision"] == "highest" and double.candidates


def test_candidates_are_what_the_device_can_run(monkeypatch):
    monkeypatch.setattr(scc.launch, "capability", lambda like: (7, 5))
    assert {scc.VARIANTS[name].precision for name in task(precision="medium").candidates} == {"highest"}


@pytest.mark.parametrize("launcher", tuning.LAUNCHERS)
def test_every_candidate_can_be_called_for_a_timing(monkeypatch, launcher):
    monkeypatch.setattr(timings, "clock_for", lambda device: lambda run: 1.0)
    problem = task(precision="medium", launcher=launcher)
    record = problem.search(1.0)
    assert set(record["seconds"]) == set(problem.candidates) and record["failed"] == {}
    assert timings.best(record, problem.candidates) == problem.rule


def test_search_takes_no_timings_of_the_simulator(store):
    tuning.set_mode("search")
    assert tuning.choose("scc", "forward", WINDOWS, LIKE, "highest") == task().rule
    assert store.records() == []


def test_a_captured_step_computes_with_the_variants_of_the_eager_one(monkeypatch, store):
    """Timings written between the eager call and the capture change nothing."""
    used = []
    forward = scc.forward
    monkeypatch.setattr(scc, "forward", lambda *args: used.append(args[5]) or forward(*args))
    x = np.random.default_rng(0).standard_normal((2, 8, 2, 2), np.float32)
    step = capture_step(nn.SCC(8, 8, groups=2, overlap=0.5).to("simulator"), x, device="simulator")
    eager = step(x).numpy().copy()
    other = task()
    store.save(
        {
            "key": other.key,
            "rule": other.rule,
            "seconds": {"tiles": [1.0] * 5},
            "failed": {},
            "operations": 1,
            "date": "2026-01-31 10:15:00",
        }
    )
    replayed = step(x).numpy()
    assert used == [other.rule] * 2 != ["tiles"] * 2
    assert eager.tobytes() == replayed.tobytes()


def test_the_permission_is_read_once_for_all_passes():
    x = Tensor(np.ones((2, 8, 2, 2), np.float32), device="simulator", requires_grad=True)
    weight = Tensor(np.ones((8, 4), np.float32), device="simulator", requires_grad=True)
    with tuning.recording() as tasks:
        set_matmul_precision("high")
        try:
            y = F.scc(x, weight, groups=2, overlap=0.5)
        finally:
            set_matmul_precision("highest")
        y.backward(np.ones(y.shape, np.float32))
    assert [t.key["precision"] for t in tasks] == ["high"] * 3
