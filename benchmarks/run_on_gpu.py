"""What run_on_gpu.sh runs: every part in a process of its own, one JSON file of what came out.

    machine      what GPU and versions there are; without a usable GPU nothing else is started
    compile      every kernel for this GPU, by as many processes as there are cores, so that no later part waits for it
    tests        the gpu-marked tests, by several processes where pytest-xdist is at hand; without pytest every operator
                 of tests/checks against its float64 oracle
    launch       host time of a launch
    contraction  survey_contraction.py: every variant of the contraction beside a copy, PyTorch and the floor
    scc_wide     the cases of bench_scc.py with 16 times as many images: 64 and 128 channels,
    scc_deep     and 256 and 512
    train        training steps of MobileNet and VGG16 at batch 128
    inference    the same networks in evaluation
    compiled     their training steps beside torch.compile with CUDA graphs, which compiles for a minute or two
    layers       the sliding-channel layers of VGG16, ResNet18 and MobileNet at batch 128,
    large        and at batch 1024
    depthwise    bench_depthwise.py, and
    conv2d       bench_conv2d.py, and
    batch_norm   bench_batch_norm.py, all at 512 images
    scan         the engine alone from 1 to 4096 images, and
    odd          at odd sizes of image and odd numbers of filters beside the even ones
    memcheck     every operator of tests/checks under compute-sanitizer,
    racecheck    for its shared memory too,
    initcheck    for memory that is read before it is written,
    synccheck    for barriers that not all threads reach
    tune         sccengine tune for MobileNet at batch 128,
    ship         what is clearly better than the rules as a table, in a file beside the results, and
    tuned        the training step again

The file is written again after each part: a part that fails, hangs or takes its process down costs only its own
results. Each part has a status ("passed", "failed", "timed out", "skipped"), its seconds and the end of its output;
one that times rows has them too. The time is shared out among the parts chosen, by their weights; what one leaves
over goes to the next.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from sccengine.files import write_json

ROOT = Path(__file__).resolve().parents[1]
_KEPT_OUTPUT = 6000


@dataclass(frozen=True)
class Part:
    """A command; weight: of its time among the others'; rows: whether it takes --json FILE."""

    command: list
    weight: float
    rows: bool = False


def parts(tuning_table):
    """{name: Part}, in the order in which they run."""
    checks = [sys.executable, __file__, "--checks"]
    compile_kernels = [sys.executable, __file__, "--compile"]
    # Everything rests on launching and on the intrinsics, so these are tested first.
    first = [ROOT / "tests" / "gpu" / name for name in ("test_launch.py", "test_intrinsics.py")]
    others = sorted(set((ROOT / "tests" / "gpu").glob("test_*.py")) - set(first))
    tests = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", *map(str, first + others)]
    if importlib.util.find_spec("xdist"):
        tests += ["-n", str(min(8, os.cpu_count())), "--dist", "loadgroup"]
    if importlib.util.find_spec("pytest") is None:
        tests = checks
    sanitizer = ["compute-sanitizer", "--target-processes", "all", "--error-exitcode", "1", "--tool"]
    tune = [sys.executable, "-m", "sccengine", "tune", "--device", "cuda"]
    ship = [*tune, "--ship", str(tuning_table)]
    tune += ["--model", "mobilenet", "--input", "3x32x32", "--batch-size", "128", "--seconds", "60"]
    wide, deep = "H=32,16 N=256", "H=8,4 N=512"
    networks = "model=mobilenet,vgg16 batch=128"
    eager = _only("sccengine*", "torch NCHW*", "torch channels_last*")
    # The variants are in the survey; the paper's own takes half a second a call.
    calls = _only("F.scc", "nn.SCC", "torch*")
    compiled = _only("sccengine captured", "torch compiled NCHW", "torch compiled channels_last")
    return {
        "compile": Part(compile_kernels, 2),
        "tests": Part(tests, 6),
        "launch": _bench(1, "launch"),
        "contraction": Part([sys.executable, str(ROOT / "benchmarks" / "survey_contraction.py")], 3, rows=True),
        "scc_wide": _bench(4, "scc", wide, *calls),
        "scc_deep": _bench(4, "scc", deep, *calls),
        "train": _bench(3, "train_step", networks, *eager),
        "inference": _bench(2, "inference", networks, *eager),
        "compiled": _bench(6, "train_step", networks, *compiled),
        "layers": _bench(4, "scc_layers", "", *calls),
        "large": _bench(4, "scc_layers", "N=1024 pass=both", *calls),
        "depthwise": _bench(1, "depthwise", "N=512"),
        "conv2d": _bench(1, "conv2d", "N=512"),
        "batch_norm": _bench(1, "batch_norm", "N=512"),
        "scan": _bench(2, "scc", "C=128 cg=2 co=0.5 N=1,4,16,64,256,1024,4096", *_only("F.scc")),
        "odd": _bench(3, "scc", "C=128 cg=2 co=0.5 N=64 H=15,16,17,31,32,33 O=127,128,129", *_only("F.scc")),
        "memcheck": Part([*sanitizer, "memcheck", *checks], 6),
        "racecheck": Part([*sanitizer, "racecheck", *checks], 6),
        "initcheck": Part([*sanitizer, "initcheck", *checks], 3),
        "synccheck": Part([*sanitizer, "synccheck", *checks], 3),
        "tune": Part(tune, 2),
        "ship": Part(ship, 0.2),
        "tuned": _bench(2, "train_step", "model=mobilenet batch=128", *eager),
    }


def _only(*globs):
    return [word for glob in globs for word in ("--only", glob)]


def _bench(weight, name, axes="", *more):
    conditions = [word for axis in axes.split() for word in ("--axis", axis)]
    script = ROOT / "benchmarks" / f"bench_{name}.py"
    command = [sys.executable, str(script), "--device", "cuda", "--min-samples", "20", "--timeout", "1"]
    return Part([*command, *conditions, *more], weight, rows=True)


def run_part(command, seconds, rows_file=None):
    """A part's entry in the result file."""
    if shutil.which(command[0]) is None:
        return {"status": "skipped", "output": f"there is no {command[0]} here"}
    command = [*command, "--json", str(rows_file)] if rows_file else command
    started = time.perf_counter()
    # A session of its own: a part that hangs is ended with all the processes it has started.
    part = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        output, _ = part.communicate(timeout=seconds)
        code = part.returncode
        status = "passed" if code == 0 else "failed"
    except subprocess.TimeoutExpired:
        os.killpg(part.pid, signal.SIGKILL)
        output, code, status = part.communicate()[0], None, "timed out"
    except BaseException:
        os.killpg(part.pid, signal.SIGKILL)
        raise
    entry = {"status": status, "exit_code": code, "seconds": time.perf_counter() - started, "limit_seconds": seconds}
    entry["output"] = output.decode(errors="replace")[-_KEPT_OUTPUT:]
    if rows_file and rows_file.exists():
        try:
            entry["rows"] = json.loads(rows_file.read_text())
        except ValueError as error:  # cut off in the middle of writing
            entry["output"] += f"\n{rows_file.name} is damaged: {error}"
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


def run_checks(device="cuda", part=0, parts=1):
    """Every case of tests/checks on a device, printed one line each; the number that failed. Needs no pytest.

    Of `parts` parts, to share them out among processes, the one of number `part`.
    """
    from tests import checks

    cases = [
        (stem, module, case, dtype)
        for stem, module in checks.modules().items()
        for case in module.CASES
        for dtype in ("float32", "float64")
    ][part::parts]
    failed = 0
    for stem, module, case, dtype in cases:
        try:
            module.check(device, case, dtype)
            outcome = "passed"
        except Exception:
            failed += 1
            outcome = "FAILED\n" + traceback.format_exc(limit=-3)
        print(f"{stem} {case} {dtype}: {outcome}", flush=True)
    print(f"{failed} of {len(cases)} failed", flush=True)
    return failed


def run_in_processes(function, count):
    """function(part, count) for each part in a process of its own; whether all gave 0."""
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        return not any(pool.starmap(function, [(part, count) for part in range(count)]))


def check_part(part, parts):
    import cupy

    # No pool: a sanitizer knows the bounds of what CUDA has allocated, not of an array in a block of a pool.
    cupy.cuda.set_allocator(None)
    return run_checks("cuda", part, parts)


def compile_part(part, parts):
    """Compiles a share of the kernels for this GPU into the cache on disk; the number that failed."""
    import cupy

    from sccengine.kernels.cuda import compiler, launch
    from sccengine.kernels.cuda.arguments import name_of
    from tests.signatures import argument_types, builds

    capability = launch.capability(cupy.empty(0))
    work = [(build, dtype) for _, build in builds() for dtype in build.dtypes if build.since <= capability][part::parts]
    failed = 0
    for build, dtype in work:
        try:
            compiler.machine_code(build.kernel, argument_types(build.codes, dtype), capability)
        except Exception:
            failed += 1
            print(f"{name_of(build.kernel)} {dtype}: FAILED\n{traceback.format_exc(limit=-3)}", flush=True)
    print(f"{failed} of {len(work)} failed", flush=True)
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = list(parts(Path()))
    parser.add_argument("--only", action="append", default=[], choices=names, metavar="PART", help="may be repeated")
    parser.add_argument("--skip", action="append", default=[], choices=names, metavar="PART", help="may be repeated")
    parser.add_argument("--seconds", type=float, default=3000.0, help="for all parts together (default 3000)")
    parser.add_argument("--checks", action="store_true", help="only check the operators, without pytest")
    parser.add_argument("--compile", action="store_true", help="only compile the kernels")
    options = parser.parse_args()
    if options.compile:
        return 0 if run_in_processes(compile_part, os.cpu_count()) else 1
    if options.checks:
        return 0 if run_in_processes(check_part, min(8, os.cpu_count())) else 1

    entry, problem = machine_part()
    path = result_path(entry)
    results = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")}
    results["parts"] = {"machine": entry}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, results)
    if problem:
        print(f"no GPU to run on: {problem}\nresults: {path}", file=sys.stderr)
        return 1
    chosen = {
        name: part
        for name, part in parts(path.with_suffix(".tuning.json")).items()
        if name not in options.skip and (name in options.only or not options.only)
    }
    deadline = time.perf_counter() + options.seconds
    weights = sum(part.weight for part in chosen.values())
    with tempfile.TemporaryDirectory() as scratch:
        for name, part in chosen.items():
            seconds = max(deadline - time.perf_counter(), 0.0) * part.weight / weights
            weights -= part.weight
            entry = run_part(part.command, seconds, Path(scratch) / f"{name}.json" if part.rows else None)
            results["parts"][name] = entry
            write_json(path, results)
            print(f"{name}: {entry['status']}", flush=True)
    print(f"results: {path}")
    statuses = [part["status"] for part in results["parts"].values()]
    return 0 if set(statuses) <= {"passed", "skipped"} else 1


if __name__ == "__main__":
    sys.exit(main())
