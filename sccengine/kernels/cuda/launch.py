"""The one place where CuPy, Numba and Numba's simulator meet: every CUDA kernel starts here.

A kernel is an ordinary ``@cuda.jit`` function without an eager signature. It sees every array as a flat
one-dimensional array and every size as an int32::

    elements(kernel, count, x, y, n)          one thread per element; the kernel tests ``cuda.grid(1) < count``
    blocks(kernel, grid, block, x, y, n)      an explicit grid and block (ints or tuples), dynamic shared memory

How an argument reaches the kernel:

====================  ==================================================================================
array                 a flat view; must be C-contiguous and below 2**31 elements (indices are int32)
Python int or bool    ``np.int32``
Python float          the dtype of the first floating-point array among the arguments
NumPy scalar          as it is (``np.uint64`` for a random key, ``np.float64`` for a sum)
None                  a one-element dummy of that same dtype; a flag tells the kernel not to read it
====================  ==================================================================================

CuPy arrays are launched on CuPy's current stream, so a kernel is ordered with the CuPy work around it and can
be captured into a CUDA graph. Numba never allocates device memory and never synchronises: it is handed bare
pointers. NumPy arrays (the engine's device "simulator") run in Numba's CUDA simulator, which must have been
switched on with ``NUMBA_ENABLE_CUDASIM=1`` before Numba was imported.

One kernel serves float32 and float64: an accumulator starts as ``x.dtype.type(0)`` (a literal 0.0 would make
it float64), and shared memory is ``cuda.shared.array(BLOCK, x.dtype)``.

Every kernel file ends with the argument types its kernels are launched with, so that all of them can be
compiled without a GPU and a launch that differs is found out::

    COMPILE = [
        Build(forward_v1, "FFFFiiif"),
        Build(forward_v2, "FFFFiiif", dtypes=("float32",), since=(8, 0), instructions=("LDG.E.128",), registers=128),
    ]

One letter per kernel argument. Arrays: ``F`` of the dtype under test (one of ``dtypes``), ``S`` float32, ``D``
float64, ``H`` uint16 (the storage of bfloat16), ``B`` uint8, ``I`` int32, ``L`` int64, ``U`` uint64. Scalars: ``f`` of
the dtype under test, ``s`` float32, ``d`` float64, ``i`` int32, ``u`` uint64. A kernel that is launched with more than
one list of types has one Build for each.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numba import config, cuda

SIMULATED = bool(config.ENABLE_CUDASIM)

# Threads of a one-dimensional block. A power of two: tree reductions halve it. The simulator makes each a
# Python thread, so there a block is small; the code that runs is the same.
BLOCK = 8 if SIMULATED else 256

_LIMIT = 2**31
_GRID_LIMITS = (2**31 - 1, 65535, 65535)
_tables = {}
_dummies = {}
_recorded = None


class Build(NamedTuple):
    """One entry of a COMPILE list: a kernel, the types it is launched with, and what its machine code must be like."""

    kernel: object
    codes: str  # one letter per argument
    dtypes: tuple = ("float32", "float64")  # what the letters F and f stand for, in turn
    since: tuple = (7, 5)  # the least compute capability
    instructions: tuple = ()  # opcodes that must occur, such as "LDG.E.128", "HMMA"; modifiers may stand between
    registers: int = 255  # at most so many a thread


def elements(kernel, count, *args):
    """Launches `kernel` with one thread for each of `count` elements, in blocks of BLOCK threads."""
    blocks(kernel, divide_up(count, BLOCK), BLOCK, *args)


def blocks(kernel, grid, block, *args, shared=0):
    """Launches `kernel` over `grid` blocks of `block` threads with `shared` bytes of dynamic shared memory.

    An empty grid launches nothing.
    """
    grid = grid if isinstance(grid, tuple) else (grid,)
    if 0 in grid:
        return
    if any(size > limit for size, limit in zip(grid, _GRID_LIMITS)):
        raise ValueError(f"{_name(kernel)}: {grid} blocks, but CUDA launches at most {_GRID_LIMITS}")
    like = _first_array(args, kernel)
    if isinstance(like, np.ndarray):
        if not SIMULATED:
            raise RuntimeError(
                f"{_name(kernel)}: a CUDA kernel got NumPy arrays; they run in Numba's simulator only, which "
                "needs NUMBA_ENABLE_CUDASIM=1 set before Python starts"
            )
        stream = 0
        flat = _flat_numpy
    else:
        import cupy

        if like.device.id != cupy.cuda.runtime.getDevice():
            with like.device, cuda.gpus[like.device.id]:
                return blocks(kernel, grid, block, *args, shared=shared)
        stream = cuda.external_stream(cupy.cuda.get_current_stream().ptr)
        flat = _flat_cupy
    arguments = [_argument(value, like, flat, kernel) for value in args]
    if _recorded is not None and isinstance(like, np.ndarray):
        _recorded.append((kernel, grid, block, shared, arguments))
    else:
        kernel[grid, block, stream, shared](*arguments)


@contextmanager
def recording():
    """Within it, launches in the simulator are appended to the list it gives, and not carried out: see `replay`."""
    global _recorded
    before, _recorded = _recorded, []
    try:
        yield _recorded
    finally:
        _recorded = before


def replay(launches):
    """Carries out launches that were recorded, on the same memory."""
    for kernel, grid, block, shared, arguments in launches:
        kernel[grid, block, 0, shared](*arguments)


class _RunningKernel:
    """The simulator's ``cuda`` namespace of the kernel that is running, looked up at each use."""

    def __getattr__(self, name):
        from numba.cuda.simulator.kernel import _get_kernel_context

        return getattr(_get_kernel_context(), name)


# ``cuda`` for device functions that stand in another file than the kernel calling them. The simulator swaps
# the name ``cuda`` in their module at each call, and swaps it back while other threads still use it.
device_cuda = _RunningKernel() if SIMULATED else cuda


def divide_up(count, size):
    """How many pieces of `size` cover `count`."""
    return -(-count // size)


def capability(like):
    """The compute capability (major, minor) of the device of `like`; the simulator stands for the newest it knows."""
    if isinstance(like, np.ndarray):
        return (9, 0)
    digits = like.device.compute_capability
    return int(digits[:-1]), int(digits[-1])


def table(host, like):
    """The int32 table `host` (NumPy) on the device of `like`: one copy for each content and device, for good.

    Tables are small (window starts, tiles) and the same at every call, so they are uploaded once. They are
    never released, because a captured CUDA graph keeps reading the copy it was captured with.
    """
    host = np.ascontiguousarray(host, dtype=np.int32)
    if isinstance(like, np.ndarray):
        return host
    key = (like.device.id, host.tobytes())
    if key not in _tables:
        import cupy

        with like.device:
            _tables[key] = cupy.asarray(host)
    return _tables[key]


def _first_array(args, kernel):
    """The first floating-point array, which gives Python floats their dtype; without one the first array."""
    arrays = [value for value in args if hasattr(value, "reshape") and not isinstance(value, np.generic)]
    if not arrays:
        raise TypeError(f"{_name(kernel)}: a launch needs at least one array among its arguments")
    return next((array for array in arrays if array.dtype.kind == "f"), arrays[0])


def _argument(value, like, flat, kernel):
    if value is None:
        return flat(_dummy(like))
    if isinstance(value, np.generic):
        return value
    if isinstance(value, int):
        return np.int32(value)
    if isinstance(value, float):
        if like.dtype.kind != "f":
            raise TypeError(f"{_name(kernel)}: the number {value} has no dtype: pass np.float32({value})")
        return like.dtype.type(value)
    if value.size >= _LIMIT:
        raise ValueError(
            f"{_name(kernel)}: an array of shape {value.shape} has {value.size} elements; CUDA kernels index "
            f"with 32 bits and take fewer than {_LIMIT}: use a smaller batch"
        )
    if not value.flags.c_contiguous:
        raise ValueError(
            f"{_name(kernel)}: an array of shape {value.shape} and strides {value.strides} is not "
            "C-contiguous; sccengine.backend.contiguous makes it so"
        )
    return flat(value)


def _flat_numpy(array):
    # Wrapped as a device array: a bare one would be copied to and fro, which breaks kernels that work in place.
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

    return FakeCUDAArray(array.view(np.ndarray).reshape(-1))


def _flat_cupy(array):
    # No "stream" entry: Numba would wait for that stream on the host at every launch.
    interface = {
        "shape": (array.size,),
        "typestr": array.dtype.str,
        "data": (array.data.ptr, False),
        "strides": None,
        "version": 3,
    }
    return cuda.from_cuda_array_interface(interface, owner=array, sync=False)


def _dummy(like):
    if isinstance(like, np.ndarray):
        return np.zeros(1, like.dtype)
    key = (like.device.id, like.dtype.str)
    if key not in _dummies:
        import cupy

        with like.device:
            _dummies[key] = cupy.zeros(1, like.dtype)
    return _dummies[key]


def _name(kernel):
    function = getattr(kernel, "py_func", kernel)
    return f"{function.__module__}.{function.__name__}"
