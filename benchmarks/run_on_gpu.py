"""What run_on_gpu.sh runs: every part in a process of its own, one JSON file of what came out.

    machine      what GPU and versions there are; without a usable GPU nothing else is started
    tests        the gpu-marked tests; without pytest every operator of tests/checks against its float64 oracle
    launch       bench_launch.py
    scc          bench_scc.py --device cuda
    train_step   bench_train_step.py --device cuda

The file is written again after each part: a part that fails, hangs or takes its process down costs only its own
results. Each part has a status ("passed", "failed", "timed out", "skipped"), its seconds and the end of its output.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from sccengine.training.files import write_json

ROOT = Path(__file__).resolve().parents[1]
_KEPT_OUTPUT = 6000


def commands(scratch, seconds):
    """{part: (command, seconds that it may take, JSON file that it leaves or None)}."""
    benchmarks = ROOT / "benchmarks"
    python = sys.executable
    # Everything rests on launching and on the intrinsics, so these are tested first.
    first = [ROOT / "tests" / "gpu" / name for name in ("test_launch.py", "test_intrinsics.py")]
    others = sorted(set((ROOT / "tests" / "gpu").glob("test_*.py")) - set(first))
    tests = [python, "-m", "pytest", "-q", "-m", "gpu", *map(str, first + others)]
    if importlib.util.find_spec("pytest") is None:
        tests = [python, __file__, "--checks"]
    bench = ["--device", "cuda", "--min-samples", "20", "--timeout", "2", "--json"]
    return {
        "tests": (tests, 0.3 * seconds, None),
        "launch": (
            [python, str(benchmarks / "bench_launch.py"), *bench, str(scratch / "launch.json")],
            0.1 * seconds,
            scratch / "launch.json",
        ),
        "scc": (
            [python, str(benchmarks / "bench_scc.py"), *bench, str(scratch / "scc.json")],
            0.5 * seconds,
            scratch / "scc.json",
        ),
        "train_step": (
            [python, str(benchmarks / "bench_train_step.py"), *bench, str(scratch / "train_step.json")],
            0.1 * seconds,
            scratch / "train_step.json",
        ),
    }


def run_part(command, seconds, rows_file):
    """A part's entry in the result file."""
    started = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=ROOT, timeout=seconds, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output, code = done.stdout, done.returncode
        status = "passed" if code == 0 else "failed"
    except subprocess.TimeoutExpired as stopped:
        output, code, status = stopped.stdout or b"", None, "timed out"
    entry = {"status": status, "exit_code": code, "seconds": time.perf_counter() - started, "limit_seconds": seconds}
    entry["output"] = output.decode(errors="replace")[-_KEPT_OUTPUT:]
    if rows_file and rows_file.exists():
        entry["rows"] = json.loads(rows_file.read_text())
    return entry


def machine_part():
    """(entry, None), or (entry, why there is nothing to run on)."""
    from sccengine import backend
    from sccengine.bench import machine

    problem = backend.cuda_problem()
    if problem:
        return {"status": "failed", "output": problem}, problem
    return {"status": "passed", "machine": machine.describe("cuda"), "versions": machine.versions()}, None


def result_path(entry):
    """Where the results go: $OUT as a file, or in $OUT as a folder, or in benchmarks/results."""
    device = re.sub(r"[^a-z0-9]+", "-", entry.get("machine", {}).get("gpu", "none").lower()).strip("-")
    name = f"gpu-{device}-{datetime.date.today().isoformat()}.json"
    chosen = os.environ.get("OUT")
    if not chosen:
        return ROOT / "benchmarks" / "results" / name
    return Path(chosen) / name if Path(chosen).is_dir() else Path(chosen)


def run_checks(device="cuda"):
    """Every case of tests/checks on a device, printed one line each; the number that failed. Needs no pytest."""
    from tests import checks

    failed = 0
    for stem, module in checks.modules().items():
        for case in module.CASES:
            for dtype in ("float32", "float64"):
                try:
                    module.check(device, case, dtype)
                    outcome = "passed"
                except Exception:
                    failed += 1
                    outcome = "FAILED\n" + traceback.format_exc(limit=-3)
                print(f"{stem} {case} {dtype}: {outcome}", flush=True)
    print(f"{failed} failed")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skip", action="append", default=[], choices=("tests", "launch", "scc", "train_step"))
    parser.add_argument("--seconds", type=float, default=1500.0, help="for all parts together (default 1500)")
    parser.add_argument(
        "--checks", action="store_true", help="only check the operators, in this process, without pytest"
    )
    options = parser.parse_args()
    if options.checks:
        return 1 if run_checks() else 0

    entry, problem = machine_part()
    path = result_path(entry)
    results = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")}
    results["parts"] = {"machine": entry}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, results)
    if problem:
        print(f"no GPU to run on: {problem}\nresults: {path}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as scratch:
        for part, (command, seconds, rows_file) in commands(Path(scratch), options.seconds).items():
            if part in options.skip:
                entry = {"status": "skipped"}
            else:
                entry = run_part(command, seconds, rows_file)
            results["parts"][part] = entry
            write_json(path, results)
            print(f"{part}: {entry['status']}", flush=True)
    print(f"results: {path}")
    statuses = [part["status"] for part in results["parts"].values()]
    return 0 if set(statuses) <= {"passed", "skipped"} else 1


if __name__ == "__main__":
    sys.exit(main())
