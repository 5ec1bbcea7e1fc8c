"""Sliding-channel convolutions, forward and backward, on CPU and CUDA, without a deep-learning framework.

Public names are resolved on first use, so ``import sccengine`` loads nothing else: no kernel is compiled, no GPU is
touched, and NumPy, Numba, Matplotlib and Click stay unloaded until something needs them.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_ATTRIBUTES = {
    "Tensor": "autograd",
    "Parameter": "autograd",
    "Function": "autograd",
    "no_grad": "autograd",
    "ChannelWindows": "windows",
    "DataError": "data.errors",
    "capture_step": "capture",
    "set_seed": "backend",
    "set_matmul_precision": "precision",
    "get_matmul_precision": "precision",
}
_MODULES = (
    "autograd",
    "backend",
    "certify",
    "data",
    "drawing",
    "exploration",
    "functional",
    "gradcheck",
    "interop",
    "models",
    "nn",
    "optim",
    "reference",
    "training",
    "tuning",
    "windows",
)

__all__ = [*_ATTRIBUTES, *_MODULES, "__version__"]


def __getattr__(name):
    if name in _ATTRIBUTES:
        value = getattr(importlib.import_module(f"{__name__}.{_ATTRIBUTES[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
