"""ChannelShuffle: interleaves the groups of a grouped convolution."""

from __future__ import annotations

from sccengine import functional as F
from sccengine import numeric
from sccengine.nn.module import Module


class ChannelShuffle(Module):
    """Channel g * (C / groups) + i of x (N, C, ...) moves to i * groups + g."""

    def __init__(self, groups):
        super().__init__()
        self.groups = numeric.whole("ChannelShuffle", "groups", groups)

    def forward(self, x):
        return F.channel_shuffle(x, self.groups)

    def extra_repr(self):
        return f"groups={self.groups}"
