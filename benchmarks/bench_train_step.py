"""A training step of dscnet, MobileNet or VGG16 against the same network written in PyTorch.

    python benchmarks/bench_train_step.py [--device cuda] [--list] [--axis batch=32] [--json FILE]

``sccengine bench train_step`` with PyTorch's formulations beside the engine (peers/models.py).
"""

import sys

import peers

from sccengine.bench.case import Candidate
from sccengine.bench.train_step import GROUPS, MOMENTUM, OVERLAP, batches_of
from sccengine.windows import ChannelWindows


def channels(in_channels, out_channels):
    """(O, K): the channel that each tap reads."""
    return ChannelWindows.sliding(in_channels, out_channels, GROUPS, OVERLAP).channels()


def candidates(pytorch, axes, device):
    """PyTorch's formulations; those that differ in the SCC expression only where there is SCC."""
    from peers import models

    def step(name, inputs):
        settings = {"groups": GROUPS, "channels": channels, "lr": inputs["lr"], "momentum": MOMENTUM}
        network = axes["model"], axes["scheme"], inputs["state"]
        return models.training_step(name, *network, batches_of(inputs), device, **settings)

    return [
        Candidate(
            f"torch {name}",
            "pytorch",
            lambda inputs, name=name: step(name, inputs),
            lambda loss: {"loss": pytorch.numpy(loss)},
        )
        for name in models.TRAINING_EXPRESSIONS
        if axes["scheme"] == "dw+scc" or "SCC" not in name
    ]


if __name__ == "__main__":
    sys.exit(peers.main("train_step", candidates))
