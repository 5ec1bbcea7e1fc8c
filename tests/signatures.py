"""Reads the COMPILE tables of sccengine/kernels/cuda: which kernel is launched with which argument types."""

import importlib
import pkgutil

import numpy as np

import sccengine.kernels.cuda as package

_FIXED = {"D": np.float64, "I": np.int32, "L": np.int64, "d": np.float64, "i": np.int32, "u": np.uint64}


def argument_types(codes, dtype):
    """The types that the letters of a COMPILE row stand for, as pairs (is an array, dtype)."""
    return tuple((code.isupper(), np.dtype(_FIXED.get(code, dtype))) for code in codes)


def kernel_modules():
    """Every module of the CUDA kernel package, in alphabetical order."""
    names = sorted(info.name for info in pkgutil.iter_modules(package.__path__))
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]
