"""CrossEntropyLoss: softmax cross-entropy, averaged over the batch."""

from __future__ import annotations

from sccengine import functional as F
from sccengine import numeric
from sccengine.nn.module import Module


class CrossEntropyLoss(Module):
    """Loss of logits (N, O) against labels (N,) of class numbers, a scalar; ``label_smoothing`` in [0, 1)."""

    def __init__(self, label_smoothing=0.0):
        super().__init__()
        self.label_smoothing = numeric.below_one("CrossEntropyLoss", "label_smoothing", label_smoothing)

    def forward(self, logits, labels):
        return F.cross_entropy(logits, labels, self.label_smoothing)

    def extra_repr(self):
        return f"label_smoothing={self.label_smoothing}"
