"""How well the table of layers foretells a training step: the sum of its layers beside the measured step, by design.

    python benchmarks/layer_sums.py [--model resnet18] [--dataset synthetic] [--batch-size 64] [--seconds 2]

Both are least times of many, so that other programs on the machine matter little. "off" is the sum over the step, less
one; "rank" is Spearman's correlation of the two over the designs, which is what a search needs.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from sccengine import backend, timings
from sccengine.exploration import Design
from sccengine.exploration.latency import LayerTimes
from sccengine.training.job import RECIPE, build_model, build_optimizer, build_trainer, choose_rates
from sccengine.training.stepper import Stepper

GROUPS = (1, 2, 4, 8)
WIDTHS = (0.25, 0.5, 0.75, 1.0)


def designs_of(model):
    """Every width with every number of groups, and the other schemes at width 1."""
    sliding = [Design(model, width=width, groups=groups, overlap=0.5) for width in WIDTHS for groups in GROUPS]
    others = [Design(model, scheme, groups=1, overlap=0.0) for scheme in ("standard", "dw+pw")]
    return [*sliding, *others]


def measure(design, options, device, seconds):
    """(sum of the layers, least and median whole step) of a design in seconds."""
    options = {**options, **design.as_dict(), "seed": 0, "patience": None}
    trainer = build_trainer(options, 1, None, device, progress="quiet")
    batch = next(iter(trainer.train_loader))
    layers = LayerTimes(len(batch[1]), lambda module: build_optimizer(trainer.config, module), device)
    total = layers.of(build_model(trainer.config), batch[0].shape[1:], options["label_smoothing"])
    trainer.model.train()
    step = Stepper(trainer.model, trainer.optimizer, options["label_smoothing"], "auto")
    for _ in range(3):
        step(*batch)
    with timings.current(device):
        taken = []
        ended = time.monotonic() + seconds
        while time.monotonic() < ended:
            taken += timings.measure({"step": lambda: step(*batch)}, timings.clock_for(device), seconds)[0]["step"]
    return total, min(taken), timings.median(taken)


def rank_correlation(a, b):
    """Spearman's, for lists without many ties."""
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="dscnet")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each whole step")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    device = backend.resolve_device(given.device)
    options = {**RECIPE, "dataset": given.dataset, "batch_size": given.batch_size, "stem": "cifar"}
    choose_rates(options)
    rows = []
    print(f"{'design':<38} {'sum, ms':>8} {'step, ms':>9} {'median':>8} {'off':>6}")
    for design in designs_of(given.model):
        total, least, median = measure(design, options, device, given.seconds)
        rows.append((total, least))
        times = f"{1e3 * total:8.2f} {1e3 * least:9.2f} {1e3 * median:8.2f}"
        print(f"{design.name:<38} {times} {total / least - 1:+6.0%}", flush=True)
    off = [total / least - 1 for total, least in rows]
    rank = rank_correlation(*zip(*rows))
    print(f"off by {np.median(off):+.1%} in the median, from {min(off):+.1%} to {max(off):+.1%}; rank {rank:.3f}")


if __name__ == "__main__":
    main()
