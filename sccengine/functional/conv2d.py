"""Convolution (cross-correlation, as everywhere in the field) with zero padding, stride and groups.

    y[n, f, a, b] = bias[f] + sum_{c, i, j} weight[f, c, i, j] * x[n, g(f) * C/G + c, a * sh - ph + i, b * sw - pw + j]

Three kinds of it have kernels of their own: depthwise (a filter reads one channel), 1x1 (a contraction over channel
windows, dense or grouped), and the rest.
"""

from __future__ import annotations

from sccengine import numeric
from sccengine.autograd import Function, as_tensor
from sccengine.backend import contiguous, empty, from_rows, kernels_for, rows
from sccengine.functional import checks
from sccengine.functional.depthwise import depthwise_conv2d
from sccengine.functional.relu import relu as relu_of
from sccengine.functional.scc import ContractionFunction
from sccengine.windows import ChannelWindows


class Conv2dFunction(Function):
    def __init__(self, stride, padding, groups):
        self.stride = stride
        self.padding = padding
        self.groups = groups

    def forward(self, x, weight, bias):
        checks.same_dtype("conv2d", x, weight=weight, bias=bias)
        checks.shape("conv2d", "bias", bias, weight.shape[:1])
        height, width = checks.window_output("conv2d", x.shape[2:], weight.shape[2:], self.stride, self.padding)
        x = rows(x)
        weight = contiguous(weight)
        bias = None if bias is None else contiguous(bias)
        y = empty((weight.shape[0], height, width, x.shape[3]), like=x)
        kernels_for(x).conv2d.forward(x, weight, bias, y, self.stride, self.padding, self.groups)
        self.input_shape = x.shape
        needs_dx, needs_dweight, _ = self.needs_gradient
        self.weight_shape = weight.shape
        self.save(x if needs_dweight else None, weight if needs_dx else None)
        return from_rows(y)

    def backward(self, dy):
        x, weight = self.saved
        needs_dx, needs_dweight, needs_dbias = self.needs_gradient
        dy = rows(dy)
        kernels = kernels_for(dy)
        dx = dweight = dbias = None
        if needs_dx:
            dx = empty(self.input_shape, like=dy)
            kernels.conv2d.backward_input(dy, weight, dx, self.stride, self.padding, self.groups)
            dx = from_rows(dx)
        if needs_dweight:
            dweight = empty(self.weight_shape, like=dy)
            kernels.conv2d.backward_weight(dy, x, dweight, self.stride, self.padding, self.groups)
        if needs_dbias:
            dbias = empty(dy.shape[:1], like=dy)
            kernels.rows.sum_rows(dy.reshape(dy.shape[0], -1), dbias)
        return dx, dweight, dbias


def conv2d(x, weight, bias=None, *, stride=1, padding=0, groups=1, relu=False):
    """Convolve x (N, C, H, W) with weight (O, C/groups, kh, kw) and bias (O,) or None, giving (N, O, HO, WO).

    stride, padding: an int or (h, w); HO = (H + 2 * padding - kh) // stride + 1. groups must divide C and O.
    relu: whether negative results become 0; a 1x1 convolution does that before it writes them.
    Raises ValueError or TypeError where settings, shapes or dtypes do not fit, before anything is computed.
    """
    stride = checks.pair("conv2d", "stride", stride, 1)
    padding = checks.pair("conv2d", "padding", padding, 0)
    groups = numeric.whole("conv2d", "groups", groups)
    x, weight = as_tensor(x), as_tensor(weight)
    checks.rank("conv2d", x, "NCHW")
    channels = x.shape[1]
    if channels % groups:
        raise ValueError(f"conv2d: groups={groups} does not divide the {channels} channels of the input")
    if len(weight.shape) != 4 or weight.shape[1] * groups != channels or 0 in weight.shape:
        raise ValueError(
            f"conv2d: weight must be (O, {channels // groups}, kh, kw) for {channels} channels in {groups} groups, "
            f"got shape {tuple(weight.shape)}"
        )
    filters = weight.shape[0]
    if filters % groups:
        raise ValueError(f"conv2d: groups={groups} does not divide the {filters} filters of the weight")
    if groups == channels:
        y = depthwise_conv2d(x, weight, bias, stride=stride, padding=padding)
        return relu_of(y) if relu else y
    if tuple(weight.shape[2:]) == (1, 1) and padding == (0, 0):
        windows = ChannelWindows.grouped(channels, filters, groups)
        return ContractionFunction("conv2d", windows, stride, relu=relu)(x, weight, bias)
    y = Conv2dFunction(stride, padding, groups)(x, weight, bias)
    return relu_of(y) if relu else y
