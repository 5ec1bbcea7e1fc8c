"""Dropout: zeroes elements at random in training, the identity in evaluation."""

from __future__ import annotations

from sccengine import functional as F
from sccengine import numeric
from sccengine.nn.module import Module


class Dropout(Module):
    """Zero elements of x (N, C, ...) with probability ``p`` in [0, 1) and divide the others by 1 - p."""

    def __init__(self, p=0.5):
        super().__init__()
        self.p = numeric.below_one("Dropout", "p", p)

    def forward(self, x):
        return F.dropout(x, self.p, self.training)

    def extra_repr(self):
        return f"p={self.p}"
