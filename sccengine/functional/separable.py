"""The depthwise separable block of evaluation as one operator: batch norms folded, nothing in between in memory.

    z = relu(batch_norm(depthwise convolution of x))            each batch norm and each ReLU as asked for
    y = relu(batch_norm(1x1 convolution of z over channel windows))

with the running statistics in both batch norms. Folded into a convolution with weight w and bias b,

    batch_norm(w * x + b) = (scale w) * x + shift       scale = gamma / sqrt(var + eps)
                                                        shift = beta + (b - mean) * scale

a batch norm costs nothing. Results are those of the single operators up to rounding, not to the bit. Nothing is kept
between calls, so changed weights or statistics need no notice. ``nn.Sequential`` comes here by itself (nn/fusion.py).
"""

from __future__ import annotations

from typing import NamedTuple

from sccengine import numeric
from sccengine.autograd import Function, as_array, as_tensor
from sccengine.backend import contiguous, device_of, empty, from_rows, kernels_for, rows
from sccengine.functional import checks
from sccengine.precision import get_matmul_precision


class Stage(NamedTuple):
    """A convolution with what follows it: a batch norm where there is a mean, then ReLU where asked for.

    All but ``weight`` may be absent; the arrays are Tensors or arrays of R elements, one for each channel that the
    stage makes.
    """

    weight: object
    bias: object = None
    gamma: object = None
    beta: object = None
    mean: object = None
    var: object = None
    eps: float = 1e-5
    relu: bool = False


class SeparableFunction(Function):
    """Inputs: x, then weight, bias, gamma and beta of both stages. The running statistics are no part of the graph."""

    def __init__(self, depthwise, mixing, windows, stride, padding):
        self.stages = depthwise, mixing
        self.windows = windows
        self.stride = stride
        self.padding = padding

    def forward(self, x, *arrays):
        if any(self.needs_gradient):
            raise RuntimeError(
                "separable: it has no backward, and a gradient is required: call it within no_grad(), or call "
                "depthwise_conv2d, batch_norm, relu and scc"
            )
        checks.rank("separable", x, "NCHW")
        stages = [
            stage._replace(weight=weight, bias=bias, gamma=gamma, beta=beta)
            for stage, (weight, bias, gamma, beta) in zip(self.stages, (arrays[:4], arrays[4:]))
        ]
        windows = self.windows
        self._check(x, *stages)
        kernel = stages[0].weight.shape[2:]
        shapes = (x.shape[1], *kernel), (windows.out_channels, windows.width)
        height, width = checks.window_output("separable", x.shape[2:], kernel, self.stride, self.padding)
        stages = [_contiguous(stage, shape) for stage, shape in zip(stages, shapes)]
        x = rows(x)
        y = empty((windows.out_channels, height, width, x.shape[3]), like=x)
        settings = self.stride, self.padding, get_matmul_precision()
        kernels_for(x).separable.forward(x, *stages, y, windows, *settings)
        return from_rows(y)

    def _check(self, x, depthwise, mixing):
        windows, channels = self.windows, x.shape[1]
        shape = tuple(depthwise.weight.shape)
        if len(shape) != 4 or shape[:2] != (channels, 1) or 0 in shape:
            raise ValueError(
                f"separable: the depthwise weight must be ({channels}, 1, kh, kw) for an input of {channels} channels, "
                f"got shape {shape}"
            )
        if windows.in_channels != channels:
            raise ValueError(f"separable: windows of {windows.in_channels} channels for an input of {channels}")
        if mixing.weight.shape[0] != windows.out_channels or mixing.weight.size != windows.out_channels * windows.width:
            raise ValueError(
                f"separable: the mixing weight must be ({windows.out_channels}, {windows.width}), "
                f"got shape {tuple(mixing.weight.shape)}"
            )
        for name, stage in (("depthwise", depthwise), ("mixing", mixing)):
            if (stage.mean is None) != (stage.var is None):
                raise ValueError(f"separable: the {name} stage must have a mean and a var, or neither")
            if stage.mean is None and not (stage.gamma is None and stage.beta is None):
                raise ValueError(f"separable: the {name} stage has a gamma or a beta, but no mean and var")
            arrays = {f"{name} {field}": getattr(stage, field) for field in ("bias", "gamma", "beta", "mean", "var")}
            checks.same_dtype("separable", x, **{f"{name} weight": stage.weight}, **arrays)
            for label, array in arrays.items():
                checks.shape("separable", label, array, stage.weight.shape[:1])
            for label in ("mean", "var") if stage.mean is not None else ():
                found = device_of(getattr(stage, label))
                if found != device_of(x):
                    raise RuntimeError(
                        f"separable: the input is on {device_of(x)}, {name} {label} on {found}; "
                        "move the model with .to(device)"
                    )


def _contiguous(stage, shape):
    arrays = [None if array is None else contiguous(array) for array in stage[1:6]]
    return Stage(contiguous(stage.weight).reshape(shape), *arrays, *stage[6:])


def separable(x, depthwise, mixing, *, windows, stride=1, padding=0):
    """A depthwise separable block of x (N, C, H, W), giving (N, O, HO, WO), without gradients.

    depthwise         Stage of the k x k convolution of every channel by itself: weight (C, 1, kh, kw)
    mixing            Stage of the 1x1 convolution: weight (O, K), or of any shape (O, ...) with K elements a filter
    windows           the ChannelWindows of the 1x1 convolution: sliding, grouped or dense
    stride, padding   of the depthwise convolution, an int or (h, w)

    On a GPU one kernel does it all where set_matmul_precision is "highest", for float32 and kernels of 3x3 and 5x5;
    else the two convolutions run one after the other, batch norms and ReLUs folded in.

    Raises ValueError or TypeError where settings, shapes or dtypes do not fit, and RuntimeError where a gradient would
    be needed.
    """
    stride = checks.pair("separable", "stride", stride, 1)
    padding = checks.pair("separable", "padding", padding, 0)
    depthwise, mixing = _settled(depthwise), _settled(mixing)
    function = SeparableFunction(depthwise, mixing, windows, stride, padding)
    return function(as_tensor(x), *depthwise[:4], *mixing[:4])


def _settled(stage):
    """The stage with its settings checked and its running statistics as arrays."""
    mean, var = (None if value is None else as_array(value) for value in (stage.mean, stage.var))
    eps = numeric.finite_above_zero("separable", "eps", stage.eps)
    return stage._replace(mean=mean, var=var, eps=eps, relu=bool(stage.relu))
