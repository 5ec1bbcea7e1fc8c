"""Taking results elsewhere and bringing them in: other programs' arrays, weights and models.

    dlpack        memory shared with PyTorch, CuPy and others           needs nothing
    safetensors   weights in PyTorch's names, both ways                 needs nothing
    onnx          whole models in standard operators                    needs the extra "onnx"
    convert       a trained pointwise model made a sliding-channel one  needs nothing

Each file is loaded on first use, ``sccengine.interop.onnx.export(...)``; none needs an optional package for that.
"""

from __future__ import annotations

import importlib

__all__ = ["convert", "dlpack", "onnx", "safetensors"]


def __getattr__(name):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__():
    return sorted(__all__)
