"""Depthwise 3x3 convolution, forward and forward + backward, as F.conv2d and nn.Conv2d with groups == C.

Padding 1; stride s. Its arithmetic is small, so its floor is that of memory: each array moved once.
"""

from __future__ import annotations

from sccengine.bench import operators
from sccengine.bench.case import Benchmark
from sccengine.bench.conv2d import convolution


def case(axes, device):
    """The case of one problem: N samples of C channels, H = W."""
    return convolution(axes, device, filters=axes["C"], kernel=3, groups=axes["C"])


BENCHMARK = Benchmark(
    "depthwise",
    operators.with_passes(
        dict(N=n, C=c, H=h, stride=s)
        for n, c, h, s in [(32, 64, 32, 1), (32, 128, 16, 1), (32, 128, 16, 2), (32, 256, 8, 1), (32, 512, 4, 1)]
    ),
    operators.with_passes([dict(N=3, C=8, H=7, stride=2)]),
    case,
    "F.conv2d",
)
