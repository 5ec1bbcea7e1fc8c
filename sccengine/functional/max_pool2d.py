"""Max pooling: y[n, c, a, b] = the largest x in the window at (a * stride - padding). Padding never wins; NaN does.

Backward needs only which pixel won (int32, flat h * W + w): each input pixel gathers from the windows that cover it.
"""

from __future__ import annotations

import numpy as np

from sccengine.autograd import Function
from sccengine.backend import empty, from_rows, kernels_for, rows
from sccengine.functional import checks


class MaxPool2dFunction(Function):
    def __init__(self, kernel_size, stride, padding):
        self.windows = checks.pooling_windows("max_pool2d", kernel_size, stride, padding)

    def forward(self, x):
        checks.rank("max_pool2d", x, "NCHW")
        height, width = checks.window_output("max_pool2d", x.shape[2:], *self.windows)
        x = rows(x)
        shape = (x.shape[0], height, width, x.shape[3])
        y = empty(shape, like=x)
        indices = empty(shape, like=x, dtype=np.int32)
        kernels_for(x).max_pool2d.forward(x, y, indices, *self.windows)
        self.save(indices)
        self.input_shape = x.shape
        return from_rows(y)

    def backward(self, dy):
        (indices,) = self.saved
        dy = rows(dy)
        dx = empty(self.input_shape, like=dy)
        kernels_for(dy).max_pool2d.backward(dy, indices, dx, *self.windows)
        return (from_rows(dx),)


def max_pool2d(x, kernel_size, stride=None, padding=0):
    """Max pooling of x (N, C, H, W) to (N, C, HO, WO), HO = (H + 2 * padding - kernel) // stride + 1.

    ``kernel_size``, ``stride`` (default: the kernel) and ``padding`` (at most half the kernel): an int or (h, w).
    Raises ValueError or TypeError where settings, shapes or dtypes do not fit, before anything is computed.
    """
    return MaxPool2dFunction(kernel_size, stride, padding)(x)
