"""Batch normalisation in training with ReLU against PyTorch's, in both of its memory formats.

python benchmarks/bench_batch_norm.py [--device cuda] [--list] [--axis C=64] [--axis pass=forward] [--json FILE]
"""

import sys

import peers


def candidates(pytorch, axes, device):
    """F.batch_norm of PyTorch, and ReLU in place."""

    def call(x, weight, bias):
        return pytorch.F.batch_norm(x, None, None, weight, bias, training=True).relu_()

    return pytorch.operator_candidates("batch_norm", call, axes, device)


if __name__ == "__main__":
    sys.exit(peers.main("batch_norm", candidates))
