"""Flatten: (N, C, H, W) -> (N, C*H*W), which costs nothing in batch-last memory."""

from __future__ import annotations

from sccengine import functional as F
from sccengine.nn.module import Module


class Flatten(Module):
    """Everything but the batch in one axis, as PyTorch's Flatten()."""

    def forward(self, x):
        return F.flatten(x)
