"""Batch normalisation (Ioffe & Szegedy 2015) per channel, optionally fused with a residual and the ReLU after it.

    y = (x - mean) / sqrt(var + eps) * weight + bias + residual,    then max(y, 0) where relu=True

In training, mean and (biased) variance are those of the batch, over N and the pixels; otherwise the running ones.
Fusing saves passes over y in each direction. Backward takes the sign of y from x, which it keeps anyway; with a
residual from y, which the next layer keeps anyway.
"""

from __future__ import annotations

import numpy as np

from sccengine import numeric
from sccengine.autograd import Function, Tensor
from sccengine.backend import contiguous, device_of, empty, filled, from_rows, is_device_array, kernels_for, rows
from sccengine.functional import checks


class BatchNormFunction(Function):
    def __init__(self, running_mean, running_var, num_batches_tracked, training, momentum, eps, relu):
        self.running_mean = running_mean
        self.running_var = running_var
        self.num_batches_tracked = num_batches_tracked
        self.training = training
        self.momentum = momentum
        self.eps = eps
        self.relu = relu

    def forward(self, x, weight, bias, residual):
        self._check(x, weight, bias, residual)
        x = rows(x)
        channels = x.shape[0]
        flat = x.reshape(channels, -1)
        weight = filled((channels,), 1.0, like=flat) if weight is None else contiguous(weight)
        bias = filled((channels,), 0.0, like=flat) if bias is None else contiguous(bias)
        residual = None if residual is None else rows(residual).reshape(flat.shape)
        y = empty(flat.shape, like=flat)
        kernels = kernels_for(flat).batch_norm
        rule = (self.eps, self.relu)
        if self.training:
            mean, var = empty((2, channels), like=flat), empty((channels,), like=flat)
            running = (self.running_mean, self.running_var, self.num_batches_tracked, self.momentum)
            kernels.forward_training(flat, weight, bias, residual, y, mean, var, *running, *rule)
        else:
            mean, var = contiguous(self.running_mean), contiguous(self.running_var)
            kernels.forward_inference(flat, weight, bias, mean, var, residual, y, *rule)
        self.save(flat, y if self.relu and residual is not None else None, weight, bias, mean, var)
        self.rows_shape = x.shape
        return from_rows(y.reshape(x.shape))

    def _check(self, x, weight, bias, residual):
        checks.batched("batch_norm", x)
        checks.shape("batch_norm", "residual", residual, x.shape)
        others = {
            "weight": weight,
            "bias": bias,
            "running_mean": self.running_mean,
            "running_var": self.running_var,
        }
        checks.same_dtype("batch_norm", x, **others, residual=residual)
        for name, array in others.items():
            checks.shape("batch_norm", name, array, x.shape[1:2])
        tracked = (self.running_mean, self.running_var, self.num_batches_tracked)
        for name, array in zip(("running_mean", "running_var", "num_batches_tracked"), tracked):
            if array is not None and device_of(array) != device_of(x):
                raise RuntimeError(
                    f"batch_norm: the input is on {device_of(x)}, {name} on {device_of(array)}; "
                    "move the model with .to(device)"
                )
        if self.training and x.size == x.shape[1]:
            raise ValueError(
                f"batch_norm: training needs more than 1 value per channel, got an input of shape {tuple(x.shape)}; "
                f"use a larger batch, or eval()"
            )

    def backward(self, dy):
        x, y, weight, bias, mean, var = self.saved
        dy = rows(dy).reshape(x.shape)
        dx, dweight, dbias = empty(x.shape, like=x), empty(weight.shape, like=x), empty(weight.shape, like=x)
        needs_residual = self.needs_gradient[3]
        dresidual = dy
        if y is not None:
            dresidual = empty(x.shape, like=x) if needs_residual else None
        kernels = kernels_for(x).batch_norm
        backward = kernels.backward_training if self.training else kernels.backward_inference
        known = (dy, x, y, weight, bias, mean, var)
        backward(*known, dx, None if y is None else dresidual, dweight, dbias, self.eps, self.relu)
        gradients = (self._as_input(dx), dweight, dbias, self._as_input(dresidual) if needs_residual else None)
        return tuple(g if needed else None for g, needed in zip(gradients, self.needs_gradient))

    def _as_input(self, gradient):
        return from_rows(gradient.reshape(self.rows_shape))


def batch_norm(
    x,
    running_mean,
    running_var,
    weight=None,
    bias=None,
    training=False,
    momentum=0.1,
    eps=1e-5,
    relu=False,
    residual=None,
    num_batches_tracked=None,
):
    """Normalise each channel of x (N, C, ...); running statistics, weight and bias are (C,) or None.

    training    use the batch's statistics and, where running ones are given (arrays), move these in place by
                ``momentum`` towards the batch's mean and unbiased variance; needs more than one value per channel
    residual    None, or what to add to the normalised x, of its shape: a shortcut around the layers before
    relu        apply max(y, 0), after the addition, in the same pass
    num_batches_tracked   None, or an int64 array of one element that a training call counts up. With ``momentum`` None
                the running statistics are the average over so many batches.

    Raises ValueError or TypeError where settings, shapes or dtypes do not fit, before anything is computed.
    """
    if (running_mean is None) != (running_var is None):
        raise ValueError("batch_norm: give both running_mean and running_var, or neither")
    if running_mean is None and not training:
        raise ValueError("batch_norm: running_mean and running_var are needed where training=False, got None")
    eps = numeric.finite_above_zero("batch_norm", "eps", eps)
    if momentum is not None or num_batches_tracked is None:
        momentum = numeric.up_to_one("batch_norm", "momentum", momentum)
    training = bool(training)
    tracked = [a.array if isinstance(a, Tensor) else a for a in (running_mean, running_var, num_batches_tracked)]
    for name, array in zip(("running_mean", "running_var", "num_batches_tracked"), tracked):
        _check_tracked(name, array, training)
    if tracked[2] is not None and (tracked[2].size != 1 or tracked[2].dtype != np.int64):
        raise ValueError(
            f"batch_norm: num_batches_tracked must be one int64, got shape {tracked[2].shape} and {tracked[2].dtype}"
        )
    return BatchNormFunction(*tracked, training, momentum, eps, bool(relu))(x, weight, bias, residual)


def _check_tracked(name, array, training):
    """What is updated in place must be the caller's own memory: a list or a copy would lose what was learnt."""
    if array is None:
        return
    if not isinstance(array, np.ndarray) and not is_device_array(array):
        raise TypeError(f"batch_norm: {name} must be an array or None, got {type(array).__name__}")
    if training and contiguous(array) is not array:
        raise ValueError(f"batch_norm: {name} is updated in place, so it must be contiguous and writeable")
