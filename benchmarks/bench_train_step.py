"""A training step of the small network (models.build("dscnet")) against the same network written in PyTorch.

    python benchmarks/bench_train_step.py [--device cuda] [--list] [--axis batch=32] [--json FILE]

``sccengine bench train_step`` with PyTorch's formulations beside the engine (peers/pytorch.py).
"""

import sys

import peers

from sccengine.bench.case import Candidate
from sccengine.bench.train_step import GROUPS, OVERLAP, SETTINGS, batches_of
from sccengine.windows import ChannelWindows


def channels(in_channels, out_channels):
    """(O, K): the channel that each tap reads."""
    return ChannelWindows.sliding(in_channels, out_channels, GROUPS, OVERLAP).channels()


def candidates(pytorch, axes, device):
    """PyTorch's formulations; those that differ in the SCC expression only where there is SCC."""

    def step(name, inputs):
        return pytorch.training_step(name, inputs["state"], batches_of(inputs), channels, device, **SETTINGS)

    return [
        Candidate(
            f"torch {name}",
            "pytorch",
            lambda inputs, name=name: step(name, inputs),
            lambda loss: {"loss": pytorch.numpy(loss)},
        )
        for name in pytorch.TRAINING_EXPRESSIONS
        if axes["scheme"] == "dw+scc" or "SCC" not in name
    ]


if __name__ == "__main__":
    sys.exit(peers.main("train_step", candidates))
