"""Reads the COMPILE tables of sccengine/kernels/cuda: which kernel is launched with which argument types."""

import importlib
import pkgutil

import numpy as np

import sccengine.kernels.cuda as package

_FIXED = {
    "S": np.float32,
    "D": np.float64,
    "B": np.uint8,
    "H": np.uint16,
    "I": np.int32,
    "L": np.int64,
    "U": np.uint64,
    "s": np.float32,
    "d": np.float64,
    "i": np.int32,
    "u": np.uint64,
}


def argument_types(codes, dtype):
    """The types that the letters of a Build stand for, as pairs (is an array, dtype)."""
    return tuple((code.isupper(), np.dtype(dtype if code in "Ff" else _FIXED[code])) for code in codes)


def builds():
    """Every (module, Build) of the CUDA kernel package."""
    return [(module, build) for module in kernel_modules() for build in getattr(module, "COMPILE", ())]


def kernel_modules():
    """Every module of the CUDA kernel package, in alphabetical order, but gpu.py: it needs CuPy and has no kernels."""
    names = sorted({info.name for info in pkgutil.iter_modules(package.__path__)} - {"gpu"})
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]
