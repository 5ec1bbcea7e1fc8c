"""Sliding-channel convolution (DSXplore, IPDPS 2021), and the channel-window contraction that all 1x1 layers share.

    y[n, f, h, w] = bias[f] + sum_{k < K} weight[f, k] * x[n, (start[f] + k) mod C, h * sh, w * sw]

``F.scc`` gives it sliding windows; ``F.conv2d`` with a 1x1 kernel and ``F.linear`` give it dense or grouped ones.
"""

from __future__ import annotations

import math

from sccengine import tuning
from sccengine.autograd import Function, as_tensor
from sccengine.backend import contiguous, empty, from_rows, kernels_for, rows
from sccengine.functional import checks
from sccengine.precision import get_matmul_precision
from sccengine.windows import ChannelWindows


class ContractionFunction(Function):
    """x (N, C) or (N, C, H, W) contracted with weight (O, ...), its trailing axes flattened being the K taps."""

    def __init__(self, operator, windows, stride=(1, 1), variant="auto", relu=False):
        self.operator = operator
        self.windows = windows
        self.stride = stride
        self.variant = variant
        self.relu = relu

    def forward(self, x, weight, bias):
        windows = self.windows
        checks.same_dtype(self.operator, x, weight=weight, bias=bias)
        checks.shape(self.operator, "bias", bias, (windows.out_channels,))
        kernels = kernels_for(x).scc
        if self.variant != "auto":
            _check_variant(self.operator, self.variant, kernels, x)
        self.precision = get_matmul_precision()
        self.input_shape = (*x.shape[1:], x.shape[0])
        self.weight_shape = weight.shape
        x = rows(x)
        if self.stride != (1, 1):
            x = self._subsampled(x)
        self.read_shape = x.shape
        x = x.reshape(windows.in_channels, -1)
        weight = contiguous(weight).reshape(windows.out_channels, windows.width)
        y = empty((windows.out_channels, x.shape[1]), like=x)
        bias = None if bias is None else contiguous(bias)
        kernels.forward(x, weight, bias, y, windows, self._variant("forward", y), self.relu)
        needs_dx, needs_dweight, _ = self.needs_gradient
        self.save(x if needs_dweight else None, weight if needs_dx else None, y if self.relu else None)
        return from_rows(y.reshape(windows.out_channels, *self.read_shape[1:]))

    def backward(self, dy):
        x, weight, y = self.saved
        needs_dx, needs_dweight, needs_dbias = self.needs_gradient
        dy = rows(dy).reshape(self.windows.out_channels, -1)
        kernels = kernels_for(dy)
        if self.relu:
            passed = empty(dy.shape, like=dy)
            kernels.relu.backward(dy.reshape(-1), y.reshape(-1), passed.reshape(-1), math.inf)
            dy = passed
        windows = self.windows
        dx = empty((windows.in_channels, dy.shape[1]), like=dy) if needs_dx else None
        dweight = empty((windows.out_channels, windows.width), like=dy) if needs_dweight else None
        dbias = empty((windows.out_channels,), like=dy) if needs_dbias else None
        input_variant = self._variant("backward_input", dy) if needs_dx else None
        weight_variant = self._variant("backward_weight", dy) if needs_dweight else None
        kernels.scc.backward(dy, x, weight, dx, dweight, dbias, windows, input_variant, weight_variant)
        return (
            None if dx is None else self._as_input(kernels, dx),
            None if dweight is None else dweight.reshape(self.weight_shape),
            dbias,
        )

    def _subsampled(self, x):
        """The pixels that the stride leaves of x (C, H, W, N)."""
        channels, height, width, samples = x.shape
        pixels = (-(-height // self.stride[0]), -(-width // self.stride[1]))
        read = empty((channels, *pixels, samples), like=x)
        kernels_for(x).subsample.forward(x, read, self.stride)
        return read

    def _as_input(self, kernels, dx):
        """dx of the pixels read as that of the input, 0 where the stride left a pixel out."""
        dx = dx.reshape(self.read_shape)
        if self.stride != (1, 1):
            read, dx = dx, empty(self.input_shape, like=dx)
            kernels.subsample.backward(read, dx, self.stride)
        return from_rows(dx)

    def _variant(self, launcher, y):
        """The variant asked for, or the one that is chosen for y, or dy, (O, M)."""
        if self.variant != "auto":
            return self.variant
        return tuning.choose("scc", launcher, self.windows, y, self.precision)


def _check_variant(operator, name, kernels, x):
    if not isinstance(name, str) or name not in kernels.VARIANTS:
        raise ValueError(f"{operator}: unknown variant {name!r}: use 'auto' or one of {', '.join(kernels.VARIANTS)}")
    dtypes = kernels.VARIANTS[name].dtypes
    if x.dtype.name not in dtypes:
        raise ValueError(f"{operator}: variant {name!r} computes in {' or '.join(dtypes)}, the input is {x.dtype.name}")
    problem = kernels.problem(name, x)
    if problem:
        raise RuntimeError(f"{operator}: variant {name!r} {problem}")


def scc(x, weight, bias=None, *, groups, overlap, stride=1, relu=False, variant="auto"):
    """Sliding-channel convolution of x (N, C, H, W) to (N, O, ceil(H / sh), ceil(W / sw)).

    weight     (O, K) with K = C / groups; row f belongs to the channels (f * S + k) mod C, S = K - floor(overlap * K)
    bias       (O,) or None
    groups     cg: must divide C
    overlap    co in [0, 1): the part of its window that a filter shares with the next, read as the decimal written
    stride     an int or (h, w): only every stride-th pixel is computed
    relu       whether negative results become 0, as by F.relu, before they are written
    variant    "auto" (tuning.py chooses) or a name of ``kernels.scc.VARIANTS``: the same result, computed differently

    An infinity or a NaN may also spoil filters that lie close by and do not read its channel: tiles multiply by zeros.
    Raises ValueError or TypeError where settings, shapes or dtypes do not fit, before anything is computed.
    """
    stride = checks.pair("scc", "stride", stride, 1)
    x, weight = as_tensor(x), as_tensor(weight)
    checks.rank("scc", x.array, "NCHW")
    channels, shape = x.shape[1], weight.shape
    if len(shape) != 2 or not shape[0]:
        raise ValueError(f"scc: weight must be (O, K), got shape {shape}")
    windows = checks.named("scc", ChannelWindows.sliding, channels, shape[0], groups, overlap)
    if shape[1] != windows.width:
        raise ValueError(
            f"scc: weight must be (O, {windows.width}) for {channels} channels in {groups} groups, got shape {shape}"
        )
    return ContractionFunction("scc", windows, stride, variant, relu)(x, weight, bias)
