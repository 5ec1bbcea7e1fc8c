"""A network in evaluation: dscnet, MobileNet or VGG16 against the same network written in PyTorch.

    python benchmarks/bench_inference.py [--device cuda] [--list] [--axis batch=128] [--json FILE]

``sccengine bench inference`` with PyTorch's formulations beside the engine (peers/models.py).
"""

import sys

import peers


def candidates(pytorch, axes, device):
    """PyTorch's formulations."""
    from peers import models

    def forward(name, inputs):
        return models.inference(name, axes["model"], axes["scheme"], inputs["state"], inputs["images"], device)

    return models.candidates(axes, device, forward, "logits")


if __name__ == "__main__":
    sys.exit(peers.main("inference", candidates))
