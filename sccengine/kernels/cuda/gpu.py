"""Launching on a GPU: CuPy's arrays, streams and driver calls around the machine code from compiler.py.

The first launch of a kernel with a list of types compiles and loads it. Every further launch is this: the addresses of
the arrays and the numbers are packed into a parameter list that was laid out then, and one driver call puts the
kernel on CuPy's current stream. Nothing allocates and nothing waits, so it can be captured into a CUDA graph; Numba
takes no part in it. The parameter list is packed by `struct` because that is the cheapest way from Python: 0.35 us
for twelve arguments, where making an np.int32 of each number would take 2 us. Of the host time of a launch with five
arrays and seven numbers 3 us are spent here (CuPy 14 on one x86 core, the driver's call replaced by an empty one).

A thread has parameter lists of its own: the driver reads one while another thread may pack the next launch. Loaded
functions belong to a device and are shared.
"""

from __future__ import annotations

import ctypes
import struct
import threading
from operator import attrgetter

import cupy
import numpy as np
from cupy.cuda import driver, runtime

from sccengine.kernels.cuda import compiler
from sccengine.kernels.cuda.arguments import (
    ELEMENT_LIMIT,
    capability_of,
    check_array,
    floating_dtype,
    name_of,
    scalar_dtype,
)

_ndarray = cupy.ndarray
# CuPy makes an object for `flags`, which takes longer than the rest of an argument; it is made of this attribute.
_is_contiguous = attrgetter("_c_contiguous" if hasattr(cupy.ndarray, "_c_contiguous") else "flags.c_contiguous")


class _Function:
    """A kernel for one list of types, loaded on one device."""

    def __init__(self, kernel, signature, device):
        self.name = name_of(kernel)
        name, cubin = compiler.machine_code(kernel, signature, capability_of(cupy.cuda.Device(device)))
        self.module = cupy.cuda.Module()
        self.module.load(cubin)
        self.pointer = self.module.get_function(name).ptr
        self.shared = 0

    def allow(self, shared):
        """Lets launches ask for so much dynamic shared memory: beyond 48 KB the driver wants to be told."""
        attribute = driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        with _loading:
            if shared <= self.shared:  # another thread was faster
                return
            try:
                driver.funcSetAttribute(self.pointer, attribute, shared)
            except driver.CUDADriverError as error:
                limit = cupy.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"]
                raise RuntimeError(
                    f"{self.name}: {shared} bytes of dynamic shared memory, but a block has {limit} here ({error})"
                ) from error
            self.shared = shared


class _Launch:
    """What one thread keeps of a kernel and a list of types: where its arguments are packed to."""

    def __init__(self, function, signature):
        codes = ["Q" if is_array else dtype.char for is_array, dtype in signature]
        layout = struct.Struct("".join(codes))
        self.function = function
        self.pointer = function.pointer
        self.pack = layout.pack_into
        self.memory = ctypes.create_string_buffer(layout.size)
        # The driver wants an array with the address of every argument.
        ends = [struct.calcsize("".join(codes[: i + 1])) for i in range(len(codes))]
        start = ctypes.addressof(self.memory)
        addresses = [start + end - struct.calcsize(code) for end, code in zip(ends, codes)]
        self.addresses = (ctypes.c_void_p * len(codes))(*addresses)
        self.arguments = ctypes.addressof(self.addresses)


class _Thread(threading.local):
    def __init__(self):
        self.launches = {}


_thread = _Thread()
_functions = {}
_loading = threading.Lock()


def launch(kernel, grid, block, shared, args):
    """Launches `kernel`; grid and block are tuples of three. The errors are those of launch.blocks."""
    values = []
    key = [kernel]
    device = None
    for value in args:
        kind = type(value)
        if kind is _ndarray:
            if value.size >= ELEMENT_LIMIT or not _is_contiguous(value):
                check_array(value, kernel)
            memory = value.data
            if device is None:
                device = memory.device_id
            elif memory.device_id != device:
                raise ValueError(f"{name_of(kernel)}: arrays on cuda:{device} and on cuda:{memory.device_id}")
            values.append(memory.ptr)
            key.append(value.dtype)
        else:
            values.append(0 if value is None else value)
            key.append(kind)
    if device is not None and device != runtime.getDevice():
        with cupy.cuda.Device(device):
            return launch(kernel, grid, block, shared, args)
    key.append(device)
    key = tuple(key)
    known = _thread.launches.get(key)
    if known is None:
        known = _prepare(key)
    if shared > known.function.shared:
        known.function.allow(shared)
    try:
        known.pack(known.memory, 0, *values)
    except (struct.error, OverflowError) as error:
        raise OverflowError(f"{name_of(kernel)}: a number does not fit its argument ({error})") from error
    try:
        stream = cupy.cuda.get_current_stream().ptr
        driver.launchKernel(known.pointer, *grid, *block, shared, stream, known.arguments, 0)
    except driver.CUDADriverError as error:
        raise RuntimeError(
            f"{name_of(kernel)}: {grid} blocks of {block} threads and {shared} bytes of dynamic shared memory "
            f"cannot be launched ({error})"
        ) from error


def _prepare(key):
    """The first launch of a kernel and a list of types in this thread."""
    kernel, *kinds, device = key
    signature = _signature(kernel, kinds)
    if cupy.cuda.get_current_stream().is_capturing():
        raise RuntimeError(
            f"{name_of(kernel)}: the first launch of a kernel compiles and loads it, which cannot be captured: "
            "launch it once before the capture"
        )
    # The driver wants a context, which a new thread has after its first call of the runtime.
    runtime.free(0)
    with _loading:
        if key not in _functions:
            _functions[key] = _Function(kernel, signature, device)
    _thread.launches[key] = _Launch(_functions[key], signature)
    return _thread.launches[key]


def _signature(kernel, kinds):
    """Pairs (is an array, dtype) from what `launch` has seen: a dtype for each array, the type of everything else."""
    if np.ndarray in kinds:
        raise RuntimeError(
            f"{name_of(kernel)}: a CUDA kernel got NumPy arrays; they run in Numba's simulator only, which "
            "needs NUMBA_ENABLE_CUDASIM=1 set before Python starts"
        )
    like = floating_dtype([kind for kind in kinds if isinstance(kind, np.dtype)], kernel)
    signature = []
    for kind in kinds:
        if isinstance(kind, np.dtype):
            signature.append((True, kind))
        elif kind is type(None):
            signature.append((True, like))
        else:
            signature.append((False, scalar_dtype(kind, like, kernel)))
    return tuple(signature)
