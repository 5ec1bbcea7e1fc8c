"""Launches a kernel as sccengine/kernels/cuda/gpu.py does, but has its PTX run by machine.py, on NumPy arrays."""

from functools import cache

import numpy as np

from sccengine.kernels.cuda import compiler, launch
from sccengine.kernels.cuda.arguments import check_array, floating_dtype, scalar_dtype
from tests.ptx import machine, program


def launch_ptx(kernel, grid, block, shared, args):
    like = floating_dtype([value.dtype for value in args if isinstance(value, np.ndarray)], kernel)
    arguments = [_argument(value, like, kernel) for value in args]
    signature = tuple((isinstance(value, np.ndarray), value.dtype) for value in arguments)
    capability = launch.capability(np.empty(0))
    machine.launch(_program(kernel, signature, capability), grid, block, arguments, shared)


@cache
def _program(kernel, signature, capability):
    return program.read(compiler.ptx(kernel, signature, capability))


def _argument(value, like, kernel):
    if value is None:
        return np.zeros(1, like)
    if not isinstance(value, np.ndarray):
        return scalar_dtype(type(value), like, kernel).type(value)
    check_array(value, kernel)
    return value
