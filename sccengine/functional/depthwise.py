"""Depthwise convolution: filter f reads channel f // m of its own, where O = m * C (PyTorch's groups == C).

    y[n, f, a, b] = bias[f] + sum_ij weight[f, 0, i, j] * x[n, f // m, a * sh - ph + i, b * sw - pw + j]

``F.conv2d`` comes here when groups equals the number of input channels.
"""

from __future__ import annotations

from sccengine.autograd import Function
from sccengine.backend import contiguous, empty, from_rows, kernels_for, rows
from sccengine.functional import checks


class DepthwiseFunction(Function):
    def __init__(self, stride, padding):
        self.stride = checks.pair("depthwise_conv2d", "stride", stride, 1)
        self.padding = checks.pair("depthwise_conv2d", "padding", padding, 0)

    def forward(self, x, weight, bias):
        self._check(x, weight, bias)
        kernel = weight.shape[2:]
        height, width = checks.window_output("depthwise_conv2d", x.shape[2:], kernel, self.stride, self.padding)
        x = rows(x)
        weight = contiguous(weight.reshape(-1, *kernel))
        bias = None if bias is None else contiguous(bias)
        y = empty((weight.shape[0], height, width, x.shape[3]), like=x)
        kernels_for(x).depthwise.forward(x, weight, bias, y, self.stride, self.padding)
        self.input_shape = x.shape
        needs_dx, needs_dweight, _ = self.needs_gradient
        self.weight_shape = weight.shape
        self.save(x if needs_dweight else None, weight if needs_dx else None)
        return from_rows(y)

    @staticmethod
    def _check(x, weight, bias):
        checks.rank("depthwise_conv2d", x, "NCHW")
        checks.same_dtype("depthwise_conv2d", x, weight=weight, bias=bias)
        channels = x.shape[1]
        if len(weight.shape) != 4 or weight.shape[1] != 1 or 0 in weight.shape or weight.shape[0] % channels:
            raise ValueError(
                f"depthwise_conv2d: weight must be (m * {channels}, 1, kh, kw) for an input of {channels} channels, "
                f"got shape {tuple(weight.shape)}"
            )
        checks.shape("depthwise_conv2d", "bias", bias, weight.shape[:1])

    def backward(self, dy):
        x, weight = self.saved
        needs_dx, needs_dweight, needs_dbias = self.needs_gradient
        dy = rows(dy)
        kernels = kernels_for(dy)
        dx = empty(self.input_shape, like=dy) if needs_dx else None
        dweight = empty(self.weight_shape, like=dy) if needs_dweight else None
        dbias = empty(dy.shape[:1], like=dy) if needs_dbias else None
        settings = (self.stride, self.padding)
        if needs_dx and needs_dweight:
            kernels.depthwise.backward(dy, x, weight, dx, dweight, dbias, *settings)
        else:
            if needs_dx:
                kernels.depthwise.backward_input(dy, weight, dx, *settings)
            if needs_dweight:
                kernels.depthwise.backward_weight(dy, x, dweight, *settings)
            if needs_dbias:
                kernels.rows.sum_rows(dy.reshape(dy.shape[0], -1), dbias)
        dx = from_rows(dx) if needs_dx else None
        dweight = dweight.reshape(-1, 1, *self.weight_shape[1:]) if needs_dweight else None
        return dx, dweight, dbias


def depthwise_conv2d(x, weight, bias=None, *, stride=1, padding=0):
    """Cross-correlate each channel of x (N, C, H, W) with its own m filters; zero padding.

    weight (m * C, 1, kh, kw), bias (m * C,) or None; stride, padding: an int or (h, w). Returns (N, m * C, HO, WO) with
    HO = (H + 2 * padding - kh) // stride + 1.
    Raises ValueError or TypeError where settings, shapes or dtypes do not fit, before anything is computed.
    """
    return DepthwiseFunction(stride, padding)(x, weight, bias)
