"""Batch normalisation (Ioffe & Szegedy 2015) per channel, optionally fused with the ReLU that follows it.

    y = (x - mean) / sqrt(var + eps) * weight + bias,    then max(y, 0) where relu=True

In training, mean and (biased) variance are those of the batch, over N and the pixels; otherwise the running ones.
Fusing saves a pass over y in each direction: backward recomputes the sign from x, which it keeps anyway.
"""

from __future__ import annotations

import numpy as np

from sccengine.autograd import Function, Tensor
from sccengine.backend import contiguous, device_of, empty, from_rows, is_device_array, kernels_for, rows, zeros
from sccengine.functional import checks


class BatchNormFunction(Function):
    def __init__(self, running_mean, running_var, training, momentum, eps, relu):
        self.running_mean = running_mean
        self.running_var = running_var
        self.training = training
        self.momentum = momentum
        self.eps = eps
        self.relu = relu

    def forward(self, x, weight, bias):
        self._check(x, weight, bias)
        x = rows(x)
        channels = x.shape[0]
        flat = x.reshape(channels, -1)
        weight = _filled(1.0, channels, flat) if weight is None else contiguous(weight)
        bias = _filled(0.0, channels, flat) if bias is None else contiguous(bias)
        y = empty(flat.shape, like=flat)
        kernels = kernels_for(flat).batch_norm
        if self.training:
            mean, var = empty((channels,), like=flat), empty((channels,), like=flat)
            kernels.forward_training(flat, weight, bias, y, mean, var, self.eps, self.relu)
            self._update_running(mean, var, flat.shape[1])
        else:
            mean, var = self.running_mean, self.running_var
            kernels.forward_inference(flat, weight, bias, mean, var, y, self.eps, self.relu)
        self.save(flat, weight, bias, mean, var)
        self.rows_shape = x.shape
        return from_rows(y.reshape(x.shape))

    def _check(self, x, weight, bias):
        checks.batched("batch_norm", x)
        others = {
            "weight": weight,
            "bias": bias,
            "running_mean": self.running_mean,
            "running_var": self.running_var,
        }
        checks.same_dtype("batch_norm", x, **others)
        for name, array in others.items():
            checks.shape("batch_norm", name, array, x.shape[1:2])
        if self.running_mean is not None:
            devices = [device_of(array) for array in (x, self.running_mean, self.running_var)]
            if len(set(devices)) > 1:
                raise RuntimeError(
                    f"batch_norm: the input is on {devices[0]}, running_mean on {devices[1]}, "
                    f"running_var on {devices[2]}; move the model with .to(device)"
                )
        if self.training and x.size == x.shape[1]:
            raise ValueError(
                f"batch_norm: training needs more than 1 value per channel, got an input of shape {tuple(x.shape)}; "
                f"use a larger batch, or eval()"
            )

    def _update_running(self, mean, var, count):
        if self.running_mean is None:
            return
        self.running_mean *= 1.0 - self.momentum
        self.running_mean += self.momentum * mean
        self.running_var *= 1.0 - self.momentum
        self.running_var += (self.momentum * count / (count - 1)) * var

    def backward(self, dy):
        x, weight, bias, mean, var = self.saved
        dx, dweight, dbias = empty(x.shape, like=x), empty(weight.shape, like=x), empty(weight.shape, like=x)
        kernels = kernels_for(x).batch_norm
        backward = kernels.backward_training if self.training else kernels.backward_inference
        backward(rows(dy).reshape(x.shape), x, weight, bias, mean, var, dx, dweight, dbias, self.eps, self.relu)
        gradients = (from_rows(dx.reshape(self.rows_shape)), dweight, dbias)
        return tuple(g if needed else None for g, needed in zip(gradients, self.needs_gradient))


def _filled(value, channels, like):
    array = zeros((channels,), like=like)
    array += value
    return array


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
):
    """Normalise each channel of x (N, C, ...); all others are (C,) or None.

    training    use the batch's statistics and, where running ones are given (arrays), move these in place by
                ``momentum`` towards the batch's mean and unbiased variance; needs more than one value per channel
    relu        apply max(y, 0) in the same pass
    """
    if (running_mean is None) != (running_var is None):
        raise ValueError("batch_norm: give both running_mean and running_var, or neither")
    if running_mean is None and not training:
        raise ValueError("batch_norm: running_mean and running_var are needed where training=False, got None")
    eps = checks.above_zero("batch_norm", "eps", eps)
    momentum = checks.share("batch_norm", "momentum", momentum)
    running = [a.array if isinstance(a, Tensor) else a for a in (running_mean, running_var)]
    for name, array in zip(("running_mean", "running_var"), running):
        # Updated in place, so a list or another copy would lose what was learnt.
        if array is not None and not isinstance(array, np.ndarray) and not is_device_array(array):
            raise TypeError(f"batch_norm: {name} must be an array or None, got {type(array).__name__}")
    return BatchNormFunction(*running, bool(training), momentum, eps, bool(relu))(x, weight, bias)
