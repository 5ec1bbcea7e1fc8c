"""Average pooling: the mean over each window, in which padding counts as zeros (PyTorch's count_include_pad=True)."""

from __future__ import annotations

from sccengine.autograd import Function
from sccengine.backend import empty, from_rows, kernels_for, rows
from sccengine.functional import checks


class AvgPool2dFunction(Function):
    def __init__(self, kernel_size, stride, padding):
        self.windows = checks.pooling_windows("avg_pool2d", kernel_size, stride, padding)

    def forward(self, x):
        checks.rank("avg_pool2d", x, "NCHW")
        height, width = checks.window_output("avg_pool2d", x.shape[2:], *self.windows)
        x = rows(x)
        y = empty((x.shape[0], height, width, x.shape[3]), like=x)
        kernels_for(x).avg_pool2d.forward(x, y, *self.windows)
        self.input_shape = x.shape
        return from_rows(y)

    def backward(self, dy):
        dy = rows(dy)
        dx = empty(self.input_shape, like=dy)
        kernels_for(dy).avg_pool2d.backward(dy, dx, *self.windows)
        return (from_rows(dx),)


def avg_pool2d(x, kernel_size, stride=None, padding=0):
    """Average pooling of x (N, C, H, W) to (N, C, HO, WO), HO = (H + 2 * padding - kernel) // stride + 1.

    ``kernel_size``, ``stride`` (default: the kernel) and ``padding`` (at most half the kernel): an int or (h, w).
    Raises ValueError or TypeError where settings, shapes or dtypes do not fit, before anything is computed.
    """
    return AvgPool2dFunction(kernel_size, stride, padding)(x)
