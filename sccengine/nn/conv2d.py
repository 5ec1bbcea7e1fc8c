"""Conv2d: dense, grouped or (groups == in_channels) depthwise. weight (O, C / groups, kh, kw), bias (O,)."""

from __future__ import annotations

import numpy as np

from sccengine import functional as F
from sccengine.autograd import Parameter, as_tensor
from sccengine.functional import checks
from sccengine.nn import init
from sccengine.nn.module import Module
from sccengine.windows import ChannelWindows


class Conv2d(Module):
    """Cross-correlation of x (N, C, H, W) with zero padding; kernel_size, stride, padding: int or (h, w)."""

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, groups=1, bias=True):
        super().__init__()
        windows = checks.named("Conv2d", ChannelWindows.grouped, in_channels, out_channels, groups)
        self.in_channels = windows.in_channels
        self.out_channels = windows.out_channels
        self.groups = windows.groups
        self.kernel_size = checks.pair("Conv2d", "kernel_size", kernel_size, 1)
        self.stride = checks.pair("Conv2d", "stride", stride, 1)
        self.padding = checks.pair("Conv2d", "padding", padding, 0)
        self.weight = Parameter(np.zeros((out_channels, windows.width, *self.kernel_size), np.float32))
        self.register_parameter("bias", Parameter(np.zeros(out_channels, np.float32)) if bias else None)
        self.reset_parameters()

    @property
    def windows(self):
        """The ChannelWindows where it is computed as a contraction over them, as a 1x1 convolution is, else None."""
        is_pointwise = self.kernel_size == (1, 1) and self.padding == (0, 0) and self.groups < self.in_channels
        return ChannelWindows.grouped(self.in_channels, self.out_channels, self.groups) if is_pointwise else None

    def reset_parameters(self):
        """Start anew: uniform within 1 / sqrt(fan-in)."""
        init.default_(self.weight, self.bias)

    def forward(self, x):
        x = as_tensor(x)
        checks.channels("Conv2d", x, self.in_channels)
        return F.conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding, groups=self.groups)

    def extra_repr(self):
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0, 0):
            text += f", padding={self.padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return text + ("" if self.bias is not None else ", bias=False")
