"""GlobalAvgPool2d: (N, C, H, W) -> (N, C), the mean over the pixels."""

from __future__ import annotations

from sccengine import functional as F
from sccengine.nn.module import Module


class GlobalAvgPool2d(Module):
    """The mean of each image's channel; PyTorch's AdaptiveAvgPool2d(1) followed by Flatten."""

    def forward(self, x):
        return F.global_avg_pool2d(x)
