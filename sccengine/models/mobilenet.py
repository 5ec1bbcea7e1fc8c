"""MobileNet (Howard et al. 2017, arXiv 1704.04861), in the form of the paper's code for CIFAR.

A stem of 32 channels and thirteen blocks (separable.py), the stride in the depthwise convolution. The published
dw+scc model is this one with its pointwise convolutions replaced, depthwise and mixing layers with a bias, and ends in
a 2x2 average pool: at 32x32, where 2x2 pixels are left, that is the global pool used here for every size. A "standard"
MobileNet is not published; here each block is one 3x3 convolution.
"""

from __future__ import annotations

from sccengine.models.separable import SeparableNetwork


class MobileNet(SeparableNetwork):
    """The network above; see SeparableNetwork for its settings."""

    STEM = 32
    BLOCKS = (
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *[(512, 1)] * 5,
        (1024, 2),
        (1024, 1),
    )
