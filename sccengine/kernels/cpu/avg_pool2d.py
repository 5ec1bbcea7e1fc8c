"""Average pooling, padding counted as zeros: a depthwise convolution whose weights are all 1 / (kh * kw)."""

import numpy as np

from sccengine.kernels.cpu import depthwise


def _weights(channels, kernel, dtype):
    return np.full((channels, *kernel), 1.0 / (kernel[0] * kernel[1]), dtype)


def forward(
    x,  # (C, H, W, N)
    y,  # (C, HO, WO, N), written
    kernel,  # (h, w)
    stride,  # (h, w)
    padding,  # (h, w)
):
    depthwise.forward(x, _weights(x.shape[0], kernel, x.dtype), None, y, stride, padding)


def backward(
    dy,  # (C, HO, WO, N)
    dx,  # (C, H, W, N), written
    kernel,  # (h, w)
    stride,  # (h, w)
    padding,  # (h, w)
):
    depthwise.backward_input(dy, _weights(dx.shape[0], kernel, dx.dtype), dx, stride, padding)
