"""A training step of dscnet, MobileNet or VGG16 against the same network written in PyTorch.

    python benchmarks/bench_train_step.py [--device cuda] [--list] [--axis batch=32] [--json FILE]

``sccengine bench train_step`` with PyTorch's formulations beside the engine (peers/models.py).
"""

import sys

import peers

from sccengine.bench.train_step import MOMENTUM, batches_of


def candidates(pytorch, axes, device):
    """PyTorch's formulations; those that differ in the SCC expression only where there is SCC."""
    from peers import models

    def step(name, inputs):
        network = axes["model"], axes["scheme"], inputs["state"]
        settings = {"lr": inputs["lr"], "momentum": MOMENTUM}
        return models.training_step(name, *network, batches_of(inputs), device, **settings)

    return models.candidates(axes, device, step, "loss")


if __name__ == "__main__":
    sys.exit(peers.main("train_step", candidates))
