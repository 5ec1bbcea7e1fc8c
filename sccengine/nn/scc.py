"""SCC: the sliding-channel convolution as a layer. weight (out_channels, K), bias (out_channels,)."""

from __future__ import annotations

import numpy as np

from sccengine import functional as F
from sccengine.autograd import Parameter, as_tensor
from sccengine.functional import checks
from sccengine.nn import init
from sccengine.nn.module import Module
from sccengine.windows import ChannelWindows


class SCC(Module):
    """A 1x1 convolution whose filter f reads the cyclic window of K = in_channels / groups channels from (f * S) mod C.

    ``overlap`` in [0, 1) is the part of its window that a filter shares with the next; S = K - floor(overlap * K).
    The windows are ``layer.windows``. x (N, C, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, in_channels, out_channels, groups=2, overlap=0.5, bias=True, stride=1):
        super().__init__()
        self.windows = checks.named("SCC", ChannelWindows.sliding, in_channels, out_channels, groups, overlap)
        self.in_channels = self.windows.in_channels
        self.out_channels = self.windows.out_channels
        self.groups = self.windows.groups
        self.overlap = overlap
        self.stride = checks.pair("SCC", "stride", stride, 1)
        self.weight = Parameter(np.zeros((out_channels, self.windows.width), np.float32))
        self.register_parameter("bias", Parameter(np.zeros(out_channels, np.float32)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self):
        """Start anew: uniform within 1 / sqrt(K), K being the true fan-in."""
        init.default_(self.weight, self.bias)

    def forward(self, x):
        x = as_tensor(x)
        checks.channels("SCC", x, self.in_channels)
        return F.scc(x, self.weight, self.bias, groups=self.groups, overlap=self.overlap, stride=self.stride)

    def extra_repr(self):
        windows = self.windows
        text = f"{self.in_channels}, {self.out_channels}, groups={self.groups}, overlap={self.overlap!s}"
        text += f", K={windows.width}, S={windows.shift}, D={windows.cycle}, effective_overlap={windows.overlap:.4g}"
        if self.stride != (1, 1):
            text += f", stride={self.stride}"
        return text + ("" if self.bias is not None else ", bias=False")
