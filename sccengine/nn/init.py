"""Initial values of parameters, written in place, with PyTorch's names and formulas.

The fan-in of a weight (O, ...) is the number of inputs that one output reads: the product of all axes but the first.
So it is K (the window's width) for SCC, C/G * kh * kw for a convolution and I for a linear layer.

Each call draws from its own counter-based key (``backend.next_key("init")``), so the same ``scc.set_seed`` and the
same order of construction give the same weights on every device.
"""

from __future__ import annotations

import math

import numpy as np

from sccengine import backend


def fans(tensor):
    """(fan-in, fan-out) of a weight (O, I, ...), as PyTorch counts them: both times the size of the trailing axes."""
    if tensor.ndim < 2:
        raise ValueError(f"init: fan-in and fan-out need a weight of rank 2 or more, got shape {tensor.shape}")
    receptive = math.prod(tensor.shape[2:])
    return tensor.shape[1] * receptive, tensor.shape[0] * receptive


def calculate_gain(nonlinearity, a=0.0):
    """The factor that keeps the variance through a nonlinearity; ``a``: the slope of leaky_relu below zero."""
    gains = {
        "linear": 1.0,
        "sigmoid": 1.0,
        "tanh": 5.0 / 3.0,
        "relu": math.sqrt(2.0),
        "leaky_relu": math.sqrt(2.0 / (1.0 + a**2)),
    }
    if nonlinearity not in gains:
        raise ValueError(f"init: nonlinearity must be one of {', '.join(gains)}, got {nonlinearity!r}")
    return gains[nonlinearity]


def constant_(tensor, value):
    """Set every element to ``value``."""
    return _write(tensor, np.full(tensor.shape, value))


def zeros_(tensor):
    return constant_(tensor, 0.0)


def ones_(tensor):
    return constant_(tensor, 1.0)


def uniform_(tensor, a=0.0, b=1.0):
    """Uniform on [a, b)."""
    return _write(tensor, _generator().uniform(a, b, tensor.shape))


def normal_(tensor, mean=0.0, std=1.0):
    return _write(tensor, _generator().normal(mean, std, tensor.shape))


def kaiming_uniform_(tensor, a=0.0, mode="fan_in", nonlinearity="leaky_relu"):
    """Uniform with standard deviation gain / sqrt(fan) (He et al. 2015)."""
    bound = math.sqrt(3.0) * calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode))
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(tensor, a=0.0, mode="fan_in", nonlinearity="leaky_relu"):
    """Normal with standard deviation gain / sqrt(fan) (He et al. 2015)."""
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode)))


def xavier_uniform_(tensor, gain=1.0):
    """Uniform with standard deviation gain * sqrt(2 / (fan-in + fan-out)) (Glorot & Bengio 2010)."""
    bound = gain * math.sqrt(6.0 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor, gain=1.0):
    """Normal with standard deviation gain * sqrt(2 / (fan-in + fan-out)) (Glorot & Bengio 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(fans(tensor))))


def default_(weight, bias=None):
    """What PyTorch's convolutions and linear layers start from: weight and bias uniform within 1 / sqrt(fan-in)."""
    kaiming_uniform_(weight, a=math.sqrt(5.0))
    if bias is not None:
        bound = 1.0 / math.sqrt(fans(weight)[0])
        uniform_(bias, -bound, bound)


def _fan(tensor, mode):
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"init: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    return fans(tensor)[mode == "fan_out"]


def _generator():
    return np.random.Generator(np.random.Philox(key=backend.next_key("init")))


def _write(tensor, values):
    tensor.array[...] = backend.to_device(values.astype(tensor.dtype), tensor.device)
    tensor.changed()
    return tensor
