"""The benchmarks' harness refuses what it must, and each script runs on one small case."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
CEILINGS = {"gemm": 1e9, "memory": 1e9, "cache": 1e10}
HAS_TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture
def harness(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import harness

    return harness


def double(inputs):
    time.sleep(1e-3)
    return {"y": 2.0 * inputs["x"]}


def candidate(harness, name, compute=double, side="engine"):
    return harness.Candidate(name, side, lambda inputs: lambda: compute(inputs), dict)


def case(harness, *candidates, operations=1.0, bytes=1.0, **settings):
    return harness.Case(
        {"shape": "tiny"},
        list(candidates),
        harness.Work(operations, bytes),
        lambda rng: {"x": rng.standard_normal(5)},
        lambda inputs: {"y": 2.0 * inputs["x"]},
        **settings,
    )


def measure(harness, problem, *arguments, ceilings=CEILINGS):
    options = harness.parser("").parse_args(["--min-samples", "3", "--timeout", "0.5", "--cache", "warm", *arguments])
    measured = harness.Ceilings("cpu", lambda device: ceilings)
    return harness.measure(problem, options, measured, harness.timer_for(options))


def status(row, name):
    return row["candidates"][name]["status"]


def test_a_right_answer_is_timed_with_its_spread(harness):
    row = measure(harness, case(harness, candidate(harness, "right")))
    entry = row["candidates"]["right"]
    assert entry["status"] == "ok"
    assert 1e-3 <= entry["warm"]["least"] <= entry["warm"]["p20"] <= entry["warm"]["p50"] <= entry["warm"]["p80"]
    assert entry["warm"]["samples"] >= 3


def test_a_wrong_answer_is_refused_before_it_is_timed(harness):
    calls = []

    def wrong(inputs):
        calls.append(1)
        return {"y": 2.0 * inputs["x"] + 1e-3}

    row = measure(harness, case(harness, candidate(harness, "wrong", wrong), candidate(harness, "right")))
    assert status(row, "wrong").startswith("refused, wrong result: y is off by 0.001")
    assert "warm" not in row["candidates"]["wrong"]
    assert len(calls) == 1
    assert status(row, "right") == "ok"


@pytest.mark.parametrize("answer", [{}, {"y": np.zeros(4)}, {"y": np.full(5, np.nan)}])
def test_a_missing_misshapen_or_nan_answer_is_refused(harness, answer):
    row = measure(harness, case(harness, candidate(harness, "wrong", lambda inputs: answer)))
    assert status(row, "wrong").startswith("refused, wrong result")


def test_an_answer_remembered_from_other_inputs_is_refused(harness):
    first = []

    def remembers(inputs):
        first.append(2.0 * inputs["x"])
        return {"y": first[0]}

    row = measure(harness, case(harness, candidate(harness, "remembers", remembers)))
    assert status(row, "remembers").startswith("refused, wrong result in the timed calls")


def test_a_failing_candidate_leaves_the_others_their_turn(harness):
    def fails(inputs):
        raise MemoryError("no room")

    row = measure(harness, case(harness, candidate(harness, "fails", fails), candidate(harness, "right")))
    assert status(row, "fails") == "failed: MemoryError: no room"
    assert status(row, "right") == "ok"


def test_a_number_below_the_floor_is_refused(harness):
    row = measure(harness, case(harness, candidate(harness, "impossible"), operations=1e12))
    assert status(row, "impossible").startswith("refused, below the floor: warm")
    assert row["floor"]["warm"] == 1e3
    assert harness.times(row, "engine") == {}


def test_the_ceilings_are_measured_again_before_a_refusal(harness):
    measured = iter([CEILINGS, {**CEILINGS, "gemm": 1e18}])
    options = harness.parser("").parse_args(["--min-samples", "3", "--timeout", "0.5", "--cache", "warm"])
    ceilings = harness.Ceilings("cpu", lambda device: next(measured))
    problem = case(harness, candidate(harness, "right"), operations=1e12)
    row = harness.measure(problem, options, ceilings, harness.timer_for(options))
    assert status(row, "right") == "ok"
    assert row["ceilings"]["gemm"] == 1e18


def test_the_floor_is_the_slower_of_arithmetic_and_memory(harness):
    assert harness.Work(4e9, 1e9).floor(CEILINGS, cold=True) == 4.0
    assert harness.Work(1e9, 4e9).floor(CEILINGS, cold=True) == 4.0
    assert harness.Work(1e8, 4e9).floor(CEILINGS, cold=False) == 0.4


def test_ratio_compares_the_best_peer_and_leaves_out_what_was_refused(harness):
    def entry(side, p50, status="ok"):
        return {"side": side, "status": status, "warm": {"p50": p50, "least": p50 / 2}}

    row = {
        "headline": "warm",
        "candidates": {
            "mine": entry("engine", 2.0),
            "cheat": entry("pytorch", 1.0, "refused, wrong result"),
            "good": entry("pytorch", 3.0),
            "slow": entry("pytorch", 9.0),
        },
    }
    assert harness.ratio(row, "mine") == 1.5
    assert harness.ratio(row, "absent") is None
    assert harness.geometric_mean([1.0, None, 4.0]) == 2.0


def test_axis_filters_and_their_errors(harness):
    def cases():
        return [
            harness.Case({"C": c, "pass": p}, [candidate(harness, "a"), candidate(harness, "b")], None, None, None)
            for c in (8, 16)
            for p in ("forward", "both")
        ]

    def chosen(*arguments):
        return harness.select(cases(), harness.parser("").parse_args(arguments))

    assert [c.name for c in chosen("--axis", "C=16", "--axis", "pass=both,other")] == ["C=16 pass=both"]
    assert {c.name for case in chosen("--only", "b*") for c in case.candidates} == {"b"}
    with pytest.raises(ValueError, match="NAME of C, pass"):
        chosen("--axis", "Q=1")
    with pytest.raises(ValueError, match="no case is left"):
        chosen("--axis", "C=7")


def test_the_cpu_clock_needs_one_thread(harness):
    options = harness.parser("").parse_args(["--clock", "cpu", "--threads", "2"])
    with pytest.raises(RuntimeError, match="--threads 1"):
        harness.timer_for(options)


def run_script(name, *arguments, **environment):
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("script", ["bench_scc.py", "bench_train_step.py"])
def test_list_names_cases_and_stops(script):
    done = run_script(script, "--list")
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if "=" in line]) >= 2
    assert "GFLOP/s" not in done.stdout


def test_an_unknown_axis_is_a_usage_error():
    done = run_script("bench_scc.py", "--axis", "Q=1")
    assert done.returncode == 2
    assert "NAME of" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.bench
@pytest.mark.parametrize(
    "script, arguments, engine",
    [("bench_scc.py", ["--small"], "F.scc"), ("bench_train_step.py", ["--batch", "16", "--seed", "1"], "sccengine")],
)
def test_each_benchmark_runs_and_writes_whole_rows(tmp_path, script, arguments, engine):
    file = tmp_path / "rows.json"
    done = run_script(
        script, *arguments, "--min-samples", "3", "--timeout", "0.3", "--cache", "warm", "--json", str(file)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(file.read_text())
    assert len(rows) == 2
    for row in rows:
        assert {"benchmark", "date", "machine", "versions", "options", "case", "seed", "floor", "ceilings"} <= set(row)
        assert row["machine"]["cores"] >= 1
        assert row["versions"]["numpy"]
        assert row["candidates"][engine]["status"] == "ok"
        assert row["candidates"][engine]["warm"]["p50"] > row["floor"]["warm"]
        assert any(entry["side"] == "pytorch" for entry in row["candidates"].values()) == HAS_TORCH


@pytest.mark.bench
def test_without_torch_the_peers_are_absent_and_a_line_says_so(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    done = run_script("bench_scc.py", "--small", "--list", PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]))
    assert done.returncode == 0, done.stderr
    assert "the pytorch peers are absent: no torch here" in done.stdout
    assert "torch banded" not in done.stdout


def test_run_on_gpu_says_that_there_is_no_gpu_and_leaves_its_file(tmp_path):
    from sccengine import backend

    if backend.cuda_problem() is None:
        pytest.skip("this machine has a GPU")
    done = subprocess.run(
        ["bash", str(BENCHMARKS / "run_on_gpu.sh")],
        env={**os.environ, "PYTHON": sys.executable, "OUT": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "no GPU to run on" in done.stderr
    (file,) = tmp_path.glob("gpu-none-*.json")
    assert json.loads(file.read_text())["parts"]["machine"]["status"] == "failed"


def test_the_parts_of_run_on_gpu_survive_each_other(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import run_on_gpu

    rows = tmp_path / "rows.json"
    write = f"import pathlib; pathlib.Path({str(rows)!r}).write_text('[1]'); print('half way'); 1 / 0"
    failed = run_on_gpu.run_part([sys.executable, "-c", write], 60, rows)
    assert failed["status"] == "failed" and failed["rows"] == [1]
    assert "half way" in failed["output"] and "ZeroDivisionError" in failed["output"]
    hanging = run_on_gpu.run_part([sys.executable, "-c", "import time; time.sleep(60)"], 0.5, None)
    assert hanging["status"] == "timed out"
