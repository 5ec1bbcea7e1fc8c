"""DSCNet: a small network of depthwise and sliding-channel convolutions, for images from 8x8 to 32x32.

A stem of 32 channels, then blocks of 32, 64 and 128 channels, the last two with stride 2; separable.py says what a
block is. Convolutions that a batch norm follows at once would not need their bias; the published models give the
depthwise and mixing layers one nevertheless, and so does this.
"""

from __future__ import annotations

from sccengine.models.separable import SeparableNetwork


class DSCNet(SeparableNetwork):
    """The network above; see SeparableNetwork for its settings."""

    STEM = 32
    BLOCKS = ((32, 1), (64, 2), (128, 2))
