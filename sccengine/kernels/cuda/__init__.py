"""CUDA kernels: Numba ``@cuda.jit`` on CuPy arrays (or in Numba's simulator), one file per operator.

Operators are imported on first use: ``import sccengine`` must not load Numba.
"""

import importlib


def __getattr__(name):
    if name.startswith("_"):
        raise AttributeError(name)
    return importlib.import_module(f"{__name__}.{name}")
