"""BatchNorm2d: batch normalisation per channel, with running statistics, optionally fused with what follows it."""

from __future__ import annotations

import numpy as np

from sccengine import functional as F
from sccengine import numeric
from sccengine.autograd import Parameter, as_tensor
from sccengine.functional import checks
from sccengine.nn import init
from sccengine.nn.module import Module


class BatchNorm2d(Module):
    """Normalise each channel of x (N, C, ...): by the batch's statistics in training, by running ones in evaluation.

    momentum              weight of the newest batch in the running statistics; None: the plain average of all batches
    affine                whether there is a weight and a bias (C,)
    track_running_stats   False: the batch's statistics in evaluation too
    relu                  apply max(y, 0) in the same pass (not in PyTorch; it changes no state-dict key)
    """

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, relu=False):
        super().__init__()
        self.num_features = numeric.whole("BatchNorm2d", "num_features", num_features)
        self.eps = numeric.finite_above_zero("BatchNorm2d", "eps", eps)
        self.momentum = None if momentum is None else numeric.up_to_one("BatchNorm2d", "momentum", momentum)
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.relu = relu
        channels = (self.num_features,)
        self.register_parameter("weight", Parameter(np.zeros(channels, np.float32)) if affine else None)
        self.register_parameter("bias", Parameter(np.zeros(channels, np.float32)) if affine else None)
        self.register_buffer("running_mean", np.zeros(channels, np.float32) if track_running_stats else None)
        self.register_buffer("running_var", np.ones(channels, np.float32) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if track_running_stats else None)
        self.reset_parameters()

    def reset_running_stats(self):
        """Forget what was tracked: mean 0, variance 1, no batches."""
        if self.track_running_stats:
            self.running_mean[...] = 0
            self.running_var[...] = 1
            self.num_batches_tracked[...] = 0

    def reset_parameters(self):
        """Start anew: weight 1, bias 0, nothing tracked."""
        self.reset_running_stats()
        if self.affine:
            init.ones_(self.weight)
            init.zeros_(self.bias)

    def forward(self, x, residual=None):
        """The normalised x (N, C, ...), plus ``residual`` of its shape where given; the ReLU comes after the sum."""
        x = as_tensor(x)
        checks.channels("BatchNorm2d", x, self.num_features)
        updates = self.training and self.track_running_stats
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=self.training or self.running_mean is None,
            momentum=self.momentum if updates else 0.0,
            eps=self.eps,
            relu=self.relu,
            residual=residual,
            num_batches_tracked=self.num_batches_tracked if updates else None,
        )

    def extra_repr(self):
        text = f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}"
        text += f", track_running_stats={self.track_running_stats}"
        return text + (", relu=True" if self.relu else "")
