"""MaxPool2d: the largest value of each window; padding never wins."""

from __future__ import annotations

from sccengine import functional as F
from sccengine.functional import checks
from sccengine.nn.module import Module


class MaxPool2d(Module):
    """Max pooling of x (N, C, H, W); ``stride`` defaults to the kernel, ``padding`` is at most half of it."""

    def __init__(self, kernel_size, stride=None, padding=0):
        super().__init__()
        checks.pooling_windows("MaxPool2d", kernel_size, stride, padding)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding

    def forward(self, x):
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding)

    def extra_repr(self):
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
