"""Dense convolution against PyTorch's, in both of its memory formats.

python benchmarks/bench_conv2d.py [--device cuda] [--list] [--axis stride=1] [--axis pass=forward] [--json FILE]
"""

import sys

import peers


def candidates(pytorch, axes, device):
    """F.conv2d of PyTorch."""
    settings = {"stride": axes["stride"], "padding": axes["kernel"] // 2, "groups": 1}

    def call(x, weight, bias):
        return pytorch.F.conv2d(x, weight, bias, **settings)

    return pytorch.operator_candidates("conv2d", call, axes, device)


if __name__ == "__main__":
    sys.exit(peers.main("conv2d", candidates))
