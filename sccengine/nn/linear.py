"""Linear: y = x @ weight.T + bias. weight (out_features, in_features), bias (out_features,)."""

from __future__ import annotations

import numpy as np

from sccengine import functional as F
from sccengine import numeric
from sccengine.autograd import Parameter
from sccengine.nn import init
from sccengine.nn.module import Module
from sccengine.windows import ChannelWindows


class Linear(Module):
    """A fully connected layer on x (N, in_features)."""

    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        self.in_features = numeric.whole("Linear", "in_features", in_features)
        self.out_features = numeric.whole("Linear", "out_features", out_features)
        self.weight = Parameter(np.zeros((out_features, in_features), np.float32))
        self.register_parameter("bias", Parameter(np.zeros(out_features, np.float32)) if bias else None)
        self.reset_parameters()

    @property
    def windows(self):
        """The ChannelWindows that it is a contraction over: every feature is in each."""
        return ChannelWindows.dense(self.in_features, self.out_features)

    def reset_parameters(self):
        """Start anew: uniform within 1 / sqrt(in_features)."""
        init.default_(self.weight, self.bias)

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self):
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
