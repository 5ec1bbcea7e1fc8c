"""What a kernel may be given, on a GPU and in the simulator: its arrays, their sizes and types."""

from __future__ import annotations

import numpy as np

# A block reaches beyond the end of a row before it finds out: by less than the 2**16 that are left for that.
ELEMENT_LIMIT = 2**31 - 2**16
_many_rows = set()  # kernels


def many_rows(kernel):
    """Declares that `kernel` finds rows with 64 bits: any number of them, of fewer than ELEMENT_LIMIT elements each."""
    _many_rows.add(kernel)
    return kernel


def check_array(array, kernel):
    """Raises ValueError for an array that a kernel cannot index."""
    if array.size >= ELEMENT_LIMIT and (kernel not in _many_rows or array.shape[-1] >= ELEMENT_LIMIT):
        raise ValueError(
            f"{name_of(kernel)}: an array of shape {array.shape} has {array.size} elements; this CUDA kernel indexes "
            f"with 32 bits and takes fewer than {ELEMENT_LIMIT}: use a smaller batch"
        )
    if not array.flags.c_contiguous:
        raise ValueError(
            f"{name_of(kernel)}: an array of shape {array.shape} and strides {array.strides} is not "
            "C-contiguous; sccengine.backend.contiguous makes it so"
        )


def floating_dtype(dtypes, kernel):
    """What a Python float becomes beside arrays of `dtypes`: the first that is floating-point, else the first."""
    if not dtypes:
        raise TypeError(f"{name_of(kernel)}: a launch needs at least one array among its arguments")
    return next((dtype for dtype in dtypes if dtype.kind == "f"), dtypes[0])


def scalar_dtype(kind, like, kernel):
    """The dtype of an argument that is no array, from its Python type."""
    if issubclass(kind, np.generic):
        return np.dtype(kind)
    if kind in (int, bool):
        return np.dtype(np.int32)
    if kind is not float:
        raise TypeError(f"{name_of(kernel)}: a kernel takes arrays, numbers and None, not {kind.__name__}")
    if like.kind != "f":
        raise TypeError(f"{name_of(kernel)}: a Python float beside {like} arrays has no dtype: pass np.float32(...)")
    return like


def host_arguments(args, kernel):
    """What `kernel` gets of `args` without a GPU: checked NumPy arrays and scalars; None is an array of one 0."""
    like = floating_dtype([value.dtype for value in args if isinstance(value, np.ndarray)], kernel)
    return [_host_argument(value, like, kernel) for value in args]


def _host_argument(value, like, kernel):
    if value is None:
        return np.zeros(1, like)
    if not isinstance(value, np.ndarray):
        return scalar_dtype(type(value), like, kernel).type(value)
    check_array(value, kernel)
    return value


def name_of(kernel):
    """The kernel's full name, for messages."""
    function = getattr(kernel, "py_func", kernel)
    return f"{function.__module__}.{function.__name__}"


def capability_of(device):
    """The compute capability (major, minor) of one of CuPy's devices, for which a kernel is compiled."""
    digits = device.compute_capability
    return int(digits[:-1]), int(digits[-1])
