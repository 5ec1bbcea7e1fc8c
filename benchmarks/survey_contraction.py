"""Every variant of the contraction on a GPU, one launcher at a time, beside a copy, PyTorch, and the floor.

    python benchmarks/survey_contraction.py [--only CHANNELS]... [--json FILE]

The benchmark `scc` times whole calls of F.scc with care, which takes many minutes. This one takes one: the cases of
`scc` with 16 times as many images; calls follow each other without a gap, behind a kernel that waits until they are
queued, and of GROUPS such rows the median counts. Each result is compared with float64 on the device. The first case
of each shape also has PyTorch's expressions, forward and forward + backward, with and without TF32; the very first the
paper's own way, too (direct_output_centric).

A row: {"case", "copy", "floor", "forward" / "backward_input" / "backward_weight": {variant: {"seconds", "error"}},
"chosen": {precision: {launcher: variant}}, "F.scc" and "peers": {precision: {pass: seconds or {expression: seconds}}}}.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import peers

import sccengine
import sccengine.functional as F
from sccengine import backend
from sccengine.bench import ceilings, machine, operators
from sccengine.bench.scc import SHAPES, WINDOWS
from sccengine.bench.timers import CudaTimer
from sccengine.files import write_json
from sccengine.kernels.cuda import scc
from sccengine.tuning import LAUNCHERS
from sccengine.windows import ChannelWindows

IMAGES = 16
GROUPS, CALLS, SECONDS = 3, 20, 5e-3
PRECISIONS = ("highest", "high")
# What is compared of a result's columns, and how many columns are multiplied in float64 at once.
COLUMNS = 8192


def seconds(timer, run):
    """Of a call: the median of GROUPS rows of calls, fewer in a row the longer they take."""
    calls = int(np.clip(SECONDS / timer.in_a_row(run, 1), 1, CALLS))
    return float(np.median([timer.in_a_row(run, calls) for _ in range(GROUPS if calls > 1 else 1)]))


class Problem:
    """The arrays of one case on the GPU, and what they must give."""

    def __init__(self, cupy, axes):
        self.axes = axes
        self.windows = ChannelWindows.sliding(axes["C"], axes["O"], axes["cg"], axes["co"])
        channels, filters, taps, columns = axes["C"], axes["O"], self.windows.width, axes["M"]
        rng = cupy.random.default_rng(0)

        def normal(*shape):
            return rng.standard_normal(shape, dtype=cupy.float32)

        self.x, self.dy, self.weight = normal(channels, columns), normal(filters, columns), normal(filters, taps)
        self.bias = normal(filters)
        self.result = {
            "forward": cupy.empty_like(self.dy),
            "backward_input": cupy.empty_like(self.x),
            "backward_weight": cupy.empty_like(self.weight),
        }
        entries = np.arange(filters)[:, None], self.windows.channels()
        dense = cupy.zeros((filters, channels))
        dense[entries] = self.weight
        x, dy = (each[:, -COLUMNS:].astype("f8") for each in (self.x, self.dy))
        whole = sum(
            self.dy[:, at : at + COLUMNS].astype("f8") @ self.x[:, at : at + COLUMNS].astype("f8").T
            for at in range(0, columns, COLUMNS)
        )
        self.expected = {
            "forward": dense @ x + self.bias[:, None],
            "backward_input": dense.T @ dy,
            "backward_weight": whole[entries],
        }

    def run(self, launcher, variant):
        result = self.result[launcher]
        if launcher == "forward":
            return lambda: scc.forward(self.x, self.weight, self.bias, result, self.windows, variant)
        if launcher == "backward_input":
            return lambda: scc.backward_input(self.dy, self.weight, result, self.windows, variant)
        return lambda: scc.backward_weight(self.dy, self.x, result, self.windows, variant)

    def error(self, cupy, launcher):
        """The norm of what the result is off by, over that of what is expected."""
        expected = self.expected[launcher]
        result = self.result[launcher][:, -expected.shape[1] :]
        return float(cupy.linalg.norm(result - expected) / cupy.linalg.norm(expected))

    def floor(self, rates):
        """Seconds that bytes and operations take at the measured ceilings, for each launcher the same."""
        rows, columns = self.axes["C"] + self.axes["O"], self.axes["M"]
        return max(4 * rows * columns / rates["memory"], 2 * self.weight.size * columns / rates["gemm"])


def through_graph(cupy, axes, direction):
    """A call of F.scc, with its backward or without a graph."""
    n, c, o, h = (axes[key] for key in "NCOH")
    rng = cupy.random.default_rng(0)
    shapes = (n, c, h, h), (o, c // axes["cg"]), (o,), (n, o, h, h)
    *leaves, dy = (rng.standard_normal(shape, dtype=cupy.float32) for shape in shapes)
    leaves = [sccengine.Tensor(leaf, requires_grad=True) for leaf in leaves]
    settings = {"groups": axes["cg"], "overlap": axes["co"]}
    return operators.through_the_graph({"pass": direction}, *leaves, dy, lambda: F.scc(*leaves, **settings))


def expressions(pytorch, axes, channels, direction):
    """(name, run) of PyTorch's ways to write it."""
    torch = pytorch.torch
    n, c, o, h = (axes[key] for key in "NCOH")
    for name, (expression_class, arrange) in pytorch.SCC_EXPRESSIONS.items():
        x, dy = (arrange(torch.randn((n, rows, h, h), device="cuda")) for rows in (c, o))
        leaves = [x, *(torch.randn(shape, device="cuda") for shape in (channels.shape, o))]
        expression = expression_class(channels, c, "cuda")
        yield name, pytorch.through_autograd(expression, leaves, dy, direction == "both")


def survey(axes, variants, rates, timer, pytorch):
    """The row of one case; pytorch: None, or the module of the peers."""
    cupy = timer.cupy
    problem = Problem(cupy, axes)
    row = {"case": axes, "copy": seconds(timer, lambda: cupy.copyto(problem.result["backward_input"], problem.x))}
    row["floor"] = problem.floor(rates)
    for launcher in LAUNCHERS:
        row[launcher] = {}
        for variant in variants:
            time = seconds(timer, problem.run(launcher, variant))
            row[launcher][variant] = {"seconds": time, "error": problem.error(cupy, launcher)}
    windows, like = problem.windows, {"forward": problem.dy, "backward_input": problem.dy, "backward_weight": problem.x}
    row["chosen"] = {p: {q: scc.choose(q, windows, like[q], p) for q in LAUNCHERS} for p in PRECISIONS}
    row["F.scc"], row["peers"] = {}, {}
    for precision in PRECISIONS:
        sccengine.set_matmul_precision(precision)
        row["F.scc"][precision] = {
            direction: seconds(timer, through_graph(cupy, axes, direction)) for direction in operators.PASSES
        }
        if pytorch:
            torch = pytorch.torch
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "high"
            row["peers"][precision] = {
                direction: {
                    name: seconds(timer, run)
                    for name, run in expressions(pytorch, axes, windows.channels().astype(np.int64), direction)
                }
                for direction in operators.PASSES
            }
            torch.cuda.empty_cache()
    sccengine.set_matmul_precision("highest")
    return row


def printed(row):
    """A line for each launcher."""
    yield " ".join(f"{key}={value}" for key, value in row["case"].items()) + f": copy {1e6 * row['copy']:.1f} us"
    for launcher in LAUNCHERS:
        for precision in PRECISIONS:
            variant = row["chosen"][precision][launcher]
            entry = row[launcher][variant]
            least = min(row[launcher], key=lambda name: row[launcher][name]["seconds"])
            yield (
                f"  {launcher}, {precision}: {variant} {1e6 * entry['seconds']:.1f} us, "
                f"{100 * row['floor'] / entry['seconds']:.0f} % of the floor, error {entry['error']:.0e}; "
                f"least: {least} {1e6 * row[launcher][least]['seconds']:.1f}"
            )
    for precision, by_pass in row["peers"].items():
        for direction, times in by_pass.items():
            best, ours = min(times, key=times.get), row["F.scc"][precision][direction]
            yield f"  F.scc {direction}, {precision}: {1e6 * ours:.1f} us; torch {best} {1e6 * times[best]:.1f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", type=int, default=[], metavar="CHANNELS", help="may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    rates = ceilings.measure("cuda:0")
    pytorch, absent = peers.load("pytorch")
    if absent:
        print(absent)
    timer = CudaTimer()
    result = {"machine": machine.describe("cuda"), "versions": machine.versions(), "ceilings": rates, "rows": []}
    print(json.dumps(rates))
    like = backend.to_device(np.zeros(1, np.float32), "cuda:0")
    variants = [
        name
        for name, variant in scc.VARIANTS.items()
        if variant.dtypes == ("float32",) and scc.problem(name, like) is None
    ]
    for (n, c, o, h), (groups, overlap) in itertools.product(SHAPES, WINDOWS):
        if options.only and c not in options.only:
            continue
        axes = dict(N=n * IMAGES, C=c, O=o, H=h, M=n * IMAGES * h * h, cg=groups, co=overlap)
        first = (groups, overlap) == WINDOWS[0]
        # The paper's backward takes half a second a call.
        paper = ["direct_output_centric"] if first and c == SHAPES[0][1] else []
        row = survey(axes, [*paper, *variants], rates, timer, pytorch if first else None)
        print("\n".join(printed(row)), flush=True)
        result["rows"].append(row)
        if options.json:
            write_json(options.json, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
