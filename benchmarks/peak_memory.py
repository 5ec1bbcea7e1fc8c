"""Peak memory of training steps, beside PyTorch's: by how much the process grows, as Linux counts it.

    python benchmarks/peak_memory.py [--models mobilenet,vgg16] [--batch 64] [--json FILE]

Each competitor has a process of its own. It first takes two steps of the same model on two images, so that kernels are
compiled and loaded and libraries have made their pools, and drops that model; from then on the growth of the largest
resident set (VmHWM) over the resident set counts, through four steps of a new model on a whole batch of 3x32x32 images.
"""

import argparse
import gc
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import peers

from sccengine import Tensor, capture_step, memory, models, optim
from sccengine import functional as F
from sccengine.backend import num_threads
from sccengine.bench.networks import GROUPS, OVERLAP
from sccengine.bench.train_step import LR, MOMENTUM
from sccengine.machine import describe_machine, versions

STEPS = 4
SIDES = ("sccengine captured", "sccengine eager", "torch channels_last", "torch NCHW")


def engine_step(name, images, labels, captured):
    """step() of the engine's model; captured: as one graph of launches, which is what training does."""
    model = models.build(name, scheme="dw+scc", groups=GROUPS, overlap=OVERLAP)
    optimizer = optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    images, labels = Tensor(images), Tensor(labels)

    def step(images, labels):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return partial(capture_step(step, images, labels) if captured else step, images, labels)


def torch_step(expression, name, images, labels):
    """step() of PyTorch's twin."""
    from peers import models as twins

    state = models.build(name, scheme="dw+scc", groups=GROUPS, overlap=OVERLAP).state_dict()
    settings = {"lr": LR, "momentum": MOMENTUM}
    return twins.training_step(expression, name, "dw+scc", state, [(images, labels)], "cpu", **settings)


def resident(field):
    """VmRSS or VmHWM of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def growth(side, name, batch):
    """{"before", "peak", "growth"} of this process, in bytes."""
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((batch, 3, 32, 32), dtype=np.float32), rng.integers(0, 10, batch)
    kind, _, expression = side.partition(" ")

    def prepare(count):
        given = name, images[:count].copy(), labels[:count].copy()
        return torch_step(expression, *given) if kind == "torch" else engine_step(*given, expression == "captured")

    step = prepare(2)
    step()
    step()
    del step
    gc.collect()
    memory.release()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    step = prepare(batch)
    for _ in range(STEPS):
        step()
    peak = resident("VmHWM")
    return {"before": before, "peak": peak, "growth": peak - before}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", default="mobilenet,vgg16", help="comma-separated (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="images (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcome here")
    parser.add_argument("--side", choices=SIDES, help="measure this competitor in this process, and print one object")
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(growth(arguments.side, arguments.models, arguments.batch)))
        return 0
    _, absent = peers.load("pytorch")
    if absent:
        print(absent)
    sides = SIDES[:2] if absent else SIDES
    outcome = {"batch": arguments.batch, "date": time.strftime("%Y-%m-%d")}
    outcome |= {"machine": {**describe_machine(), "threads": num_threads()}, "versions": versions(), "models": {}}
    for name in arguments.models.split(","):
        outcome["models"][name] = {}
        for side in sides:
            command = [sys.executable, __file__, "--models", name, "--batch", str(arguments.batch), "--side", side]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{side}, {name}: {done.stderr.strip().splitlines()[-1]}")
            found = outcome["models"][name][side] = json.loads(done.stdout)
            print(f"{name:12} {side:20} {found['growth'] / 2**20:8.1f} MiB, {found['peak'] / 2**20:8.1f} MiB in all")
    if arguments.json:
        arguments.json.write_text(json.dumps(outcome, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
