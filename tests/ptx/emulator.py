"""Launches a kernel as sccengine/kernels/cuda/gpu.py does, but has its PTX run by machine.py, on NumPy arrays."""

from functools import cache

import numpy as np

from sccengine.kernels.cuda import compiler, launch
from sccengine.kernels.cuda.arguments import host_arguments
from tests.ptx import machine, program


def launch_ptx(kernel, grid, block, shared, args):
    arguments = host_arguments(args, kernel)
    signature = tuple((isinstance(value, np.ndarray), value.dtype) for value in arguments)
    capability = launch.capability(np.empty(0))
    machine.launch(_program(kernel, signature, capability), grid, block, arguments, shared)


@cache
def _program(kernel, signature, capability):
    return program.read(compiler.ptx(kernel, signature, capability))
