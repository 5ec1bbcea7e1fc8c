"""Global average pooling: (N, C, H, W) -> (N, C), the mean of each image's channel."""

from __future__ import annotations

from sccengine.autograd import Function
from sccengine.backend import empty, from_rows, kernels_for, rows
from sccengine.functional import checks


class GlobalAvgPool2dFunction(Function):
    def forward(self, x):
        checks.rank("global_avg_pool2d", x, "NCHW")
        x = rows(x)
        channels, height, width, samples = self.input_shape = x.shape
        y = empty((channels, samples), like=x)
        kernels_for(x).global_avg_pool2d.forward(x.reshape(channels, height * width, samples), y)
        return from_rows(y)

    def backward(self, dy):
        dy = rows(dy)
        channels, height, width, samples = self.input_shape
        dx = empty((channels, height * width, samples), like=dy)
        kernels_for(dy).global_avg_pool2d.backward(dy, dx)
        return (from_rows(dx.reshape(self.input_shape)),)


def global_avg_pool2d(x):
    """The mean over H and W of x (N, C, H, W), as (N, C): what a linear classifier reads.

    Raises ValueError for x of another rank.
    """
    return GlobalAvgPool2dFunction()(x)
