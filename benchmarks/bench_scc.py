"""Sliding-channel convolution, forward and forward + backward, against PyTorch's ways to write it.

    python benchmarks/bench_scc.py [--device cuda] [--list] [--axis C=64] [--axis pass=forward] [--json FILE]

``sccengine bench scc`` with PyTorch's expressions beside the engine (peers/pytorch.py), each given its inputs in the
memory order it likes best. At the end: for each case the ratio of the best expression's time to F.scc's, and the
geometric means. On CUDA ratios are of device time; host time stands apart.
"""

import sys

import peers

from sccengine.bench.case import Candidate
from sccengine.windows import ChannelWindows


def candidates(pytorch, axes, device):
    """PyTorch's expressions of a case."""
    channels = ChannelWindows.sliding(axes["C"], axes["O"], axes["cg"], axes["co"]).channels()
    backward = axes["pass"] == "both"
    return [
        Candidate(
            f"torch {name}",
            "pytorch",
            lambda inputs, name=name: pytorch.prepare_scc(name, inputs, channels, backward, device),
            pytorch.read,
        )
        for name in pytorch.SCC_EXPRESSIONS
    ]


if __name__ == "__main__":
    sys.exit(peers.main("scc", candidates))
