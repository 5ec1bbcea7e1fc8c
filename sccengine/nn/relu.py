"""ReLU and ReLU6 as layers."""

from __future__ import annotations

from sccengine import functional as F
from sccengine.nn.module import Module


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x):
        return F.relu(x)


class ReLU6(Module):
    """min(max(x, 0), 6)."""

    def forward(self, x):
        return F.relu6(x)
