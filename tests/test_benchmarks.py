"""The harness refuses what it must, ratios have honest intervals, and verb and scripts run on small cases."""

import importlib.util
import json
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

from sccengine import reference
from sccengine.bench import case as cases
from sccengine.bench import catalog, ceilings, compare, harness, oracle_scc, plots, rows, selection, tables, timers
from sccengine.cli.main import run

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
CEILINGS = {"gemm": 1e9, "memory": 1e9, "cache": 1e10}
HAS_TORCH = importlib.util.find_spec("torch") is not None
OPTIONS = harness.Options(min_samples=3, timeout=0.5, cache="warm", threads=1)
QUICK = ["--min-samples", "3", "--timeout", "0.1", "--cache", "warm"]


# All but scc, whose small cases the scripts time below.
NAMES = [name for name in catalog.NAMES if name != "scc"]


def double(inputs):
    time.sleep(1e-3)
    return {"y": 2.0 * inputs["x"]}


def candidate(name, compute=double, side="engine"):
    return cases.Candidate(name, side, lambda inputs: lambda: compute(inputs), dict)


def case(*candidates, operations=1.0, bytes=1.0, **settings):
    return cases.Case(
        {"shape": "tiny"},
        list(candidates),
        cases.Work(operations, bytes),
        lambda rng: {"x": rng.standard_normal(5)},
        lambda inputs: {"y": 2.0 * inputs["x"]},
        **settings,
    )


def measure(problem, peak=CEILINGS):
    measured = ceilings.Ceilings("cpu", lambda device: peak)
    return harness.measure(problem, OPTIONS, measured, harness.timer_for(OPTIONS))


def status(row, name):
    return row["candidates"][name]["status"]


@pytest.mark.parametrize("seconds, untimed", [(0.003, 4), (0.02, 1)])
def test_warm_calls_come_after_untimed_ones(monkeypatch, seconds, untimed):
    now, calls = [0.0], []

    def run():
        now[0] += seconds
        calls.append(now[0])

    monkeypatch.setattr(timers.time, "perf_counter", lambda: now[0])
    taken = timers.CpuTimer(clock=lambda: now[0], rest=0).sample(run, "warm", 3)
    assert taken == pytest.approx([seconds] * 3) and len(calls) == untimed + 3


@pytest.mark.parametrize("seconds, first", [(1e-5, 4e-5), (1e-3, 1e-3)])
def test_launches_are_timed_as_they_follow_each_other_unless_a_call_is_long(monkeypatch, seconds, first):
    now, calls = [0.0], []

    def run():
        now[0] += seconds if calls else first
        calls.append(now[0])

    monkeypatch.setattr(timers.time, "perf_counter", lambda: now[0])
    timer = object.__new__(timers.CudaTimer)  # as if there were a GPU
    monkeypatch.setattr(timer, "_synchronize", lambda: None, raising=False)
    assert timer._host(run) == pytest.approx(seconds)
    assert len(calls) * seconds <= timers.BURST or len(calls) == 1


def test_calls_in_a_row_are_timed_between_two_events(monkeypatch):
    now, waited = [0.0], []
    event = lambda: types.SimpleNamespace(record=lambda: None, synchronize=lambda: None)  # noqa: E731
    timer = object.__new__(timers.CudaTimer)  # as if there were a GPU
    cuda = types.SimpleNamespace(Event=event, get_elapsed_time=lambda first, last: 1e3 * now[0])
    timer.cupy, timer._done = types.SimpleNamespace(cuda=cuda), None

    def wait(cycles, done):
        waited.append(cycles)
        now[0] = 0.0

    def run():
        now[0] += 0.25

    timer._wait = wait
    monkeypatch.setattr(timer, "_synchronize", lambda: None, raising=False)
    assert timer.in_a_row(run, 8) == 0.25
    assert len(waited) == 1


def test_a_right_answer_is_timed_with_its_spread():
    row = measure(case(candidate("right")))
    entry = row["candidates"]["right"]
    assert entry["status"] == "ok"
    assert 1e-3 <= entry["warm"]["least"] <= entry["warm"]["p20"] <= entry["warm"]["p50"] <= entry["warm"]["p80"]
    assert entry["warm"]["samples"] >= 3


def test_a_wrong_answer_is_refused_before_it_is_timed():
    calls = []

    def wrong(inputs):
        calls.append(1)
        return {"y": 2.0 * inputs["x"] + 1e-3}

    row = measure(case(candidate("wrong", wrong), candidate("right")))
    assert status(row, "wrong").startswith("refused, wrong result: y is off by 0.001")
    assert "warm" not in row["candidates"]["wrong"]
    assert len(calls) == 1
    assert status(row, "right") == "ok"


@pytest.mark.parametrize("answer", [{}, {"y": np.zeros(4)}, {"y": np.full(5, np.nan)}])
def test_a_missing_misshapen_or_nan_answer_is_refused(answer):
    row = measure(case(candidate("wrong", lambda inputs: answer)))
    assert status(row, "wrong").startswith("refused, wrong result")


def test_an_answer_remembered_from_other_inputs_is_refused():
    first = []

    def remembers(inputs):
        first.append(2.0 * inputs["x"])
        return {"y": first[0]}

    row = measure(case(candidate("remembers", remembers)))
    assert status(row, "remembers").startswith("refused, wrong result in the timed calls")


def test_a_failing_candidate_leaves_the_others_their_turn():
    def fails(inputs):
        raise MemoryError("no room")

    row = measure(case(candidate("fails", fails), candidate("right")))
    assert status(row, "fails") == "failed: MemoryError: no room"
    assert status(row, "right") == "ok"


def test_a_number_below_the_floor_is_refused():
    row = measure(case(candidate("impossible"), operations=1e12))
    assert status(row, "impossible").startswith("refused, below the floor: warm")
    assert row["floor"]["warm"] == 1e3
    assert rows.times(row, "engine") == {}


def test_the_ceilings_are_measured_again_before_a_refusal():
    measured = iter([CEILINGS, {**CEILINGS, "gemm": 1e18}])
    again = ceilings.Ceilings("cpu", lambda device: next(measured))
    row = harness.measure(case(candidate("right"), operations=1e12), OPTIONS, again, harness.timer_for(OPTIONS))
    assert status(row, "right") == "ok"
    assert row["ceilings"]["gemm"] == 1e18


def test_the_floor_is_the_slower_of_arithmetic_and_memory():
    assert cases.Work(4e9, 1e9).floor(CEILINGS, cold=True) == 4.0
    assert cases.Work(1e9, 4e9).floor(CEILINGS, cold=True) == 4.0
    assert cases.Work(1e8, 4e9).floor(CEILINGS, cold=False) == 0.4


def test_ratio_compares_the_best_peer_and_leaves_out_what_was_refused():
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
    assert rows.ratio(row, "mine") == 1.5
    assert rows.ratio(row, "absent") is None
    assert rows.geometric_mean([1.0, None, 4.0]) == 2.0


def benchmark(*candidates):
    problems = [{"C": c, "co": 0.5, "pass": p} for c in (8, 16) for p in ("forward", "both")]

    def build(axes, device):
        return cases.Case(axes, [candidate(name) for name in candidates], None, None, None)

    return cases.Benchmark("toy", problems, problems[:1], build, candidates[0])


def chosen(*axes, **settings):
    return selection.select(benchmark("a", "kernels b", "kernels c"), "cpu", axes, **settings)


def test_axes_filter_or_set():
    assert [c.name for c in chosen("C=16", "pass=both")] == ["C=16 co=0.5 pass=both"]
    assert [c.axes["pass"] for c in chosen("C=16", "co=0.50")] == ["forward", "both"]
    assert [c.name for c in chosen("C=24", "co=0.25", "pass=both")] == ["C=24 co=0.25 pass=both"]
    assert [c.axes["C"] for c in chosen("C=24,8", "pass=forward")] == [24, 8]
    assert len(chosen(small=True)) == 1


@pytest.mark.parametrize(
    "axis, message",
    [
        ("Q=1", "NAME of C, co, pass"),
        ("C", "NAME of C, co, pass"),
        ("C=x", "'x' is not a whole number"),
        ("C=0", "at least 1"),
        ("co=", "'' is not a number"),
        ("pass=sideways", "none of forward, both"),
    ],
)
def test_a_wrong_axis_is_an_error(axis, message):
    with pytest.raises(ValueError, match=message):
        chosen(axis)


def test_candidates_are_chosen_by_name_or_variant():
    assert {c.name for case in chosen(only=["a*"]) for c in case.candidates} == {"a"}
    assert {c.name for case in chosen(variants=["b"]) for c in case.candidates} == {"kernels b"}
    with pytest.raises(ValueError, match="no such variant on this device: there are b, c"):
        chosen(variants=["d"])
    with pytest.raises(ValueError, match="no candidate is called z"):
        chosen(only=["z"])


def test_settings_that_cannot_be_timed_are_errors():
    with pytest.raises(ValueError, match="--threads 1"):
        harness.Options(clock="cpu", threads=2)
    with pytest.raises(ValueError, match="interpreter"):
        harness.Options(device="simulator")


def measured(name, samples, axes=None, **changes):
    """A row with one candidate."""
    stats = {"warm": rows.kept(samples)}
    entry = {"side": "engine", "status": "ok", **stats}
    row = {
        "benchmark": "toy",
        "date": "2026-01-01",
        "machine": {"device": "cpu", "processor": "P", "cores": 2},
        "versions": {"numpy": "2"},
        "options": {"threads": 1, "clock": "wall"},
        "case": axes or {"C": 8, "pass": "forward"},
        "load": None,
        "headline": "warm",
        "work": {"operations": 1e6, "bytes": 1e5},
        "floor": {"warm": 1e-3, "cold": 1e-3},
        "ceilings": CEILINGS,
        "candidates": {name: entry},
    }
    return {**row, **changes}


def samples(centre, seed, count=60):
    return centre * (1 + 0.1 * np.random.default_rng(seed).standard_normal(count))


def test_the_interval_of_a_ratio_covers_the_truth_as_often_as_it_says():
    hits, widths = 0, []
    for seed in range(100):
        a, b = ([measured("x", samples(centre, 2 * seed + i))] for i, centre in enumerate((2.0, 1.0)))
        (ratio,) = compare.compare(a, b).ratios
        hits += ratio.low <= 2.0 <= ratio.high
        widths.append(ratio.high - ratio.low)
        assert ratio.low <= ratio.value <= ratio.high
    assert 85 <= hits <= 100
    # The median's standard error is 1.2533 * 0.1 / sqrt(60), the ratio's sqrt(2) of that.
    want = 2.0 * 2 * 1.96 * np.sqrt(2) * 1.2533 * 0.1 / np.sqrt(60)
    assert 0.6 * want < np.mean(widths) < 1.5 * want


def test_rows_without_samples_are_compared_by_their_noise():
    a, b = ([measured("x", samples(centre, seed))] for seed, centre in ((1, 3.0), (2, 1.0)))
    (whole,) = compare.compare(a, b).ratios
    for row in (*a, *b):
        del row["candidates"]["x"]["warm"]["seconds"]
    (bare,) = compare.compare(a, b).ratios
    assert bare.value == whole.value and bare.low < 3.0 < bare.high
    assert 0.4 < (bare.high - bare.low) / (whole.high - whole.low) < 2.5


def test_a_comparison_names_differences_and_what_it_left_out():
    a = [measured("x", samples(2.0, i), {"C": c, "pass": "forward"}) for i, c in enumerate((8, 16, 32))]
    b = [measured("x", samples(1.0, i + 9), {"C": c, "pass": "forward"}) for i, c in enumerate((8, 16, 64))]
    b[0]["versions"] = {"numpy": "3"}
    b[1]["candidates"]["y"] = {"side": "engine", "status": "refused"}
    result = compare.compare(a, b)
    assert result.differences == ["versions, numpy: 2 in A, 3 in B"]
    assert result.unpaired == [
        "toy C=32 pass=forward: only in A",
        "toy C=64 pass=forward: only in B",
        "toy C=16 pass=forward, y: not in A",
    ]
    (mean,) = result.means
    assert mean.value == pytest.approx(np.sqrt(result.ratios[0].value * result.ratios[1].value))
    assert mean.high - mean.low < min(r.high - r.low for r in result.ratios)
    assert str(result).count("B is faster") == 3 and "differs: versions" in str(result)
    with pytest.raises(ValueError, match="no case in common"):
        compare.compare(a[2:], b[2:])


def test_rows_are_written_and_read_back_with_their_samples(tmp_path):
    row = measured("x", list(np.linspace(1e-3, 2e-3, 1000)))
    kept = row["candidates"]["x"]["warm"]["seconds"]
    assert len(kept) == 400 and kept[0] == 1e-3 and kept[-1] == 2e-3
    rows.write_rows(tmp_path / "new" / "rows.json", [row])
    text = (tmp_path / "new" / "rows.json").read_text()
    assert json.loads(text) == [row] == rows.read_rows(tmp_path / "new" / "rows.json")
    assert len(text.splitlines()) < 80
    (tmp_path / "gpu.json").write_text(json.dumps({"parts": {"tests": {}, "scc": {"rows": [row]}}}))
    assert rows.read_rows(tmp_path / "gpu.json") == [row]
    (tmp_path / "old.json").write_text(json.dumps([{**row, "benchmark": "bench_toy"}]))
    assert rows.read_rows(tmp_path / "old.json") == [row]


@pytest.mark.parametrize("content", ["", "[]", "{}", "[1]", '[{"benchmark": "x"}]'])
def test_what_is_no_file_of_rows_is_named(tmp_path, capsys, content):
    file = tmp_path / "rows.json"
    file.write_text(content)
    assert run(["bench", "--plot", str(file), "--out", str(tmp_path)]) == 1
    assert "rows.json" in capsys.readouterr().err
    assert run(["bench", "--plot", str(tmp_path / "absent.json")]) == 1
    assert "absent.json: there is no such file" in capsys.readouterr().err


def test_the_committed_rows_are_drawn_and_compared(tmp_path, capsys):
    file = str(BENCHMARKS / "results" / "cpu-scc.json")
    assert run(["bench", "--plot", file, "--out", str(tmp_path), "--axis", "C=64,128"]) == 0
    drawn = capsys.readouterr().out.split()
    assert [Path(path).name for path in drawn] == ["roofline-scc-cpu.png", "ladder-scc-cpu.png"]
    assert all(Path(path).read_bytes()[:4] == b"\x89PNG" for path in drawn)
    assert run(["bench", "--compare", file, file]) == 0
    out = capsys.readouterr().out
    assert "geometric mean of 40" in out and "is faster" not in out and "differs" not in out


def test_numbers_in_pictures_have_three_digits_and_no_exponent():
    assert [plots._digits(value) for value in (0.051523, 1, 2.6, 99.96, 403_123)] == [
        "0.0515",
        "1",
        "2.6",
        "100",
        "403,000",
    ]


def test_points_and_bars_are_where_the_rows_say():
    axes = [{"C": c, "pass": p} for c in (8, 16) for p in ("forward", "both")]
    table = [measured("kernels slow", [4e-3] * 3, each) for each in axes]
    for row, factor in zip(table, (1, 1, 4, 4)):
        row["candidates"]["kernels fast"] = {"side": "engine", "status": "ok", "warm": rows.kept([2e-3 * factor] * 3)}
    ladder = plots.draw_ladder(table)
    assert [axes.get_title(loc="left") for axes in ladder.axes] == ["forward", "forward + backward"]
    ends = [bar.get_x() + bar.get_width() for bar in ladder.axes[0].patches]
    np.testing.assert_allclose(ends, [4.0, 4.0])  # fast: geometric mean of 2 and 8; the first variant is on top
    assert [label.get_text() for label in ladder.axes[0].get_yticklabels()] == ["kernels fast", "kernels slow"]
    assert [text.get_text() for text in ladder.axes[0].texts] == ["4x", "4x"]
    lines = {line.get_label(): line for line in plots.draw_roofline(table).axes[0].get_lines()}
    np.testing.assert_allclose(lines["kernels fast"].get_xydata(), [[10, 0.5], [10, 0.125]])
    np.testing.assert_allclose(lines["kernels slow"].get_xydata(), [[10, 0.25], [10, 0.25]])


def test_a_table_shows_the_share_of_the_floor_and_the_rates():
    lines = tables.case_table(measured("x", [4e-3] * 3)).splitlines()
    assert "1 MFLOP, 0.1 MB: floor 1 ms warm" in lines[1]
    assert lines[-1].split() == ["x", "warm", "4.000", "4.000", "..", "4.000", "4.000", "25.0%", "0.2", "0.0"]


@pytest.fixture
def quick(monkeypatch):
    """The verb without measuring this machine's ceilings."""
    peak = {"gemm": 1e13, "memory": 1e13, "cache": 1e13}
    monkeypatch.setattr(harness, "Ceilings", lambda device: ceilings.Ceilings(device, lambda _: peak))
    return ["bench", "--device", "cpu", "--small", *QUICK]


def test_the_verb_times_checks_and_writes_rows(quick, tmp_path, capsys):
    file = tmp_path / "rows.json"
    assert run([*quick, *NAMES, "--json", str(file)]) == 0
    out = capsys.readouterr().out
    found = rows.read_rows(file)
    assert [row["benchmark"] for row in found] == [name for name in NAMES for _ in range(2)]
    for row in found:
        assert {entry["status"] for entry in row["candidates"].values()} == {"ok"}
    assert "forward: F.batch_norm at" in out and "of floor" in out
    assert run(["bench", "--compare", str(file), str(file), "--json", str(tmp_path / "ratios.json")]) == 0
    assert {ratio["value"] for ratio in json.loads((tmp_path / "ratios.json").read_text())["ratios"]} == {1.0}


def test_ctrl_c_keeps_the_finished_rows(quick, tmp_path, capsys, monkeypatch):
    measure = harness.Session.measure
    calls = []

    def interrupted(self, name, case):
        calls.append(case)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure(self, name, case)

    monkeypatch.setattr(harness.Session, "measure", interrupted)
    assert run([*quick, "depthwise", "--json", str(tmp_path / "rows.json")]) == 130
    assert "1 of 2 cases are done, kept in" in capsys.readouterr().err
    assert len(rows.read_rows(tmp_path / "rows.json")) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "which benchmark? Give one or more of scc,"),
        (["nonsense"], "'nonsense' is not one of"),
        (["scc", "--plot", "x.json"], "three different things"),
        (["scc", "--variant", "nonsense"], "there are channel_stack"),
        (["depthwise", "--variant", "tiles"], "it has only one way"),
        (["scc", "--axis", "cg=3"], "3"),
        (["scc", "--clock", "cpu", "--threads", "2"], "--threads 1"),
        (["scc", "--threads", "1000"], "threads must be from 1 to"),
        (["scc", "--threads", "1000", "--list"], "threads must be from 1 to"),
        (["scc", "--min-samples", "1"], "3"),
        (["scc", "--max-noise", "0"], "above 0"),
    ],
)
def test_wrong_usage_is_said_in_one_line(capsys, arguments, message):
    assert run(["bench", "--device", "cpu", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def run_script(name, *arguments, **environment):
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("script", ["bench_scc.py", "bench_conv2d.py", "bench_train_step.py"])
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
    [
        ("bench_scc.py", [], "F.scc"),
        ("bench_depthwise.py", [], "F.conv2d"),
        ("bench_conv2d.py", [], "F.conv2d"),
        ("bench_batch_norm.py", [], "F.batch_norm"),
        ("bench_train_step.py", ["--seed", "1"], "sccengine captured"),
        ("bench_inference.py", [], "sccengine"),
    ],
)
def test_each_benchmark_runs_and_writes_whole_rows(tmp_path, script, arguments, engine):
    file = tmp_path / "rows.json"
    done = run_script(script, "--device", "cpu", "--small", *QUICK, *arguments, "--json", str(file))
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


def test_the_oracle_of_large_problems_gives_what_the_reference_does():
    rng = np.random.default_rng(0)
    # More filters than windows, and windows that wrap around; fewer filters than windows.
    for channels, filters, groups, overlap in ((8, 13, 2, 0.5), (9, 2, 3, 0.33)):
        x, dy = rng.standard_normal((3, channels, 2, 5)), rng.standard_normal((3, filters, 2, 5))
        weight, bias = rng.standard_normal((filters, channels // groups)), rng.standard_normal(filters)
        settings = (groups, overlap)
        found = [oracle_scc.forward(x, weight, bias, *settings), *oracle_scc.backward(dy, x, weight, *settings)]
        want = [reference.scc_forward(x, weight, bias, *settings), *reference.scc_backward(dy, x, weight, *settings)]
        for one, other in zip(found, want, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


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
    write = "import pathlib, sys; pathlib.Path(sys.argv[2]).write_text('[1]'); print('half way'); 1 / 0"
    failed = run_on_gpu.run_part([sys.executable, "-c", write], 60, rows)
    assert failed["status"] == "failed" and failed["rows"] == [1]
    assert "half way" in failed["output"] and "ZeroDivisionError" in failed["output"]
    damaged = run_on_gpu.run_part([sys.executable, "-c", write.replace("[1]", "[1")], 60, rows)
    assert "rows" not in damaged and "rows.json is damaged" in damaged["output"]
    hanging = run_on_gpu.run_part([sys.executable, "-c", "import time; time.sleep(60)"], 0.5)
    assert hanging["status"] == "timed out"
    absent = run_on_gpu.run_part(["no-such-program"], 60)
    assert absent["status"] == "skipped" and "no-such-program" in absent["output"]


def test_the_benchmarks_of_run_on_gpu_have_cases(monkeypatch, tmp_path, capsys):
    """Their axes and candidates are there, so that no time of a GPU is spent to find a slip in a command."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import run_on_gpu

    counts = {}
    for name, part in run_on_gpu.parts(tmp_path / "table.json").items():
        if part.rows and name not in ("launch", "contraction"):  # which need a GPU
            benchmark = Path(part.command[1]).stem.removeprefix("bench_")
            on_cpu = ["cpu" if word == "cuda" else word for word in part.command[2:]]
            assert run(["bench", benchmark, *on_cpu, "--list"]) == 0, name
            counts[name] = sum("=" in line for line in capsys.readouterr().out.splitlines())
    assert counts["scc_wide"] == counts["scc_deep"] == 20
    assert counts["train"] == counts["inference"] == 2
    assert counts["scan"] == 14 and counts["odd"] == 36
    assert min(counts.values()) > 0
