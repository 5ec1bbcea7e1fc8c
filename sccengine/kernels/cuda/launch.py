"""The one place where CuPy, Numba and Numba's simulator meet: every CUDA kernel starts here.

A kernel is an ordinary ``@cuda.jit`` function without an eager signature::

    elements(kernel, count, x, y, n)                 one thread per element; the kernel tests ``cuda.grid(1) < count``
    blocks(kernel, grid, block, x, y, n, shared=0)   an explicit grid and block (ints or tuples), and bytes of dynamic
                                                     shared memory, as many as the device has (above 48 KB, too)

How an argument reaches the kernel:

====================  ==================================================================================
array                 a bare pointer to its elements in C order; must be C-contiguous and have fewer than
                      ELEMENT_LIMIT elements (indices are int32), or any number of such rows (arguments.py)
Python int or bool    ``np.int32``
Python float          the dtype of the first floating-point array among the arguments
NumPy scalar          as it is (``np.uint64`` for a random key, ``np.float64`` for a sum)
None                  a pointer that must not be read, which a flag tells the kernel
====================  ==================================================================================

Of an array a kernel uses ``x[i]`` and ``x.dtype``, never ``x.size`` or ``x.shape``: sizes are arguments. One kernel
serves float32 and float64: an accumulator starts as ``x.dtype.type(0)`` (a literal 0.0 would make it float64), and
shared memory is ``cuda.shared.array(BLOCK, x.dtype)``.

CuPy arrays are launched on CuPy's current stream (gpu.py), so a kernel is ordered with the CuPy work around it and
can be captured into a CUDA graph once it has been launched before. Its machine code is compiled at the first launch
with a list of types, and found on disk from then on (compiler.py). NumPy arrays (the engine's device "simulator") run
in Numba's CUDA simulator, which must have been switched on with ``NUMBA_ENABLE_CUDASIM=1`` before Numba was imported.

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

import re
import warnings
import weakref
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import config, cuda

from sccengine import backend
from sccengine.kernels.cuda.arguments import capability_of, host_arguments, name_of

SIMULATED = bool(config.ENABLE_CUDASIM)
# Kernel files take it from here: of them only multi_tensor.py knows the backend.
address = backend.address

# Threads of a one-dimensional block. A power of two: tree reductions halve it. The simulator makes each a
# Python thread, so there a block is small; the code that runs is the same.
BLOCK = 8 if SIMULATED else 256

# Bytes a multiprocessor has where that is most: on compute capability 9.0, for which the simulator stands.
SHARED_MEMORY = 228 << 10

_GRID_LIMITS = (2**31 - 1, 65535, 65535)
_tables = {}  # (device, shape, content): the copy there
_known = {}  # (device, id of a host array): its copy there, a weak reference to it
_recorded = None


class Build(NamedTuple):
    """One entry of a COMPILE list: a kernel, the types it is launched with, and what its machine code must be like."""

    kernel: object
    codes: str  # one letter per argument
    dtypes: tuple = ("float32", "float64")  # what the letters F and f stand for, in turn
    since: tuple = (7, 5)  # the least compute capability
    instructions: tuple = ()  # opcodes that must occur, such as "LDG.E.128", "HMMA"; modifiers may stand between
    registers: int = 255  # at most so many a thread


def launch_bounds(threads, blocks):
    """Options of @cuda.jit: a block has so many threads, and a multiprocessor must hold so many blocks."""
    return {} if SIMULATED else {"launch_bounds": (threads, blocks)}


def elements(kernel, count, *args):
    """Launches `kernel` with one thread for each of `count` elements, in blocks of BLOCK threads."""
    blocks(kernel, divide_up(count, BLOCK), BLOCK, *args)


def blocks(kernel, grid, block, *args, shared=0):
    """Launches `kernel` over `grid` blocks of `block` threads with `shared` bytes of dynamic shared memory.

    An empty grid launches nothing. Raises ValueError for a grid that CUDA cannot launch and for arrays that are too
    large or not contiguous, TypeError for arguments of no known type, OverflowError for numbers beyond theirs, and
    RuntimeError for what the device refuses and for host arrays outside the simulator.
    """
    width, height, depth = grid = (*grid, 1, 1)[:3] if isinstance(grid, tuple) else (grid, 1, 1)
    if 0 in grid:
        return
    if width > _GRID_LIMITS[0] or height > _GRID_LIMITS[1] or depth > _GRID_LIMITS[2]:
        raise ValueError(f"{name_of(kernel)}: {grid} blocks, but CUDA launches at most {_GRID_LIMITS}")
    block = (*block, 1, 1)[:3] if isinstance(block, tuple) else (block, 1, 1)
    _device_launch(kernel, grid, block, shared, args)


def _device_launch(*launch):
    """Stands in for gpu.launch until the first launch: importing this module needs no CuPy."""
    global _device_launch
    from sccengine.kernels.cuda.gpu import launch as _device_launch

    _device_launch(*launch)


def _simulator_launch(kernel, grid, block, shared, args):
    arguments = [_flat(a) if isinstance(a, np.ndarray) else a for a in host_arguments(args, kernel)]
    if _recorded is None:
        kernel[grid, block, 0, shared](*arguments)
    else:
        _recorded.append((kernel, grid, block, shared, arguments))


if SIMULATED:
    _device_launch = _simulator_launch


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


def let_uint64_wrap(module):
    """Lets uint64 in `module` wrap around in silence, as on a GPU: in the simulator they are NumPy's, which warn."""
    if SIMULATED:
        warnings.filterwarnings("ignore", "overflow encountered", RuntimeWarning, re.escape(module))


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


def empty(shape, like):
    """An uninitialised array of the dtype and on the device of `like`."""
    return np.empty(shape, like.dtype) if isinstance(like, np.ndarray) else backend.empty(shape, like)


def capability(like):
    """The compute capability (major, minor) of the device of `like`; the simulator stands for the newest it knows."""
    return (9, 0) if isinstance(like, np.ndarray) else capability_of(like.device)


def shared_memory(like):
    """The bytes of shared memory of a multiprocessor of the device of `like`."""
    return SHARED_MEMORY if isinstance(like, np.ndarray) else _shared_memory(like.data.device_id)


@lru_cache
def _shared_memory(device):
    from cupy.cuda import runtime

    return runtime.deviceGetAttribute(runtime.cudaDevAttrMaxSharedMemoryPerMultiprocessor, device)


def table(host, like):
    """The int32 table `host` (NumPy) on the device of `like`: one copy for each content and device, for good.

    Tables are small (window starts, tiles) and the same at every call, so they are uploaded once. They are
    never released, because a captured CUDA graph keeps reading the copy it was captured with. `host` becomes read-only
    and is known from then on: comparing contents at every call would take longer than the launch.
    """
    if isinstance(like, np.ndarray):
        return np.ascontiguousarray(host, dtype=np.int32)
    device = like.data.device_id
    place = (device, id(host))
    if place not in _known:
        copy = _uploaded(np.ascontiguousarray(host, dtype=np.int32), device)
        host.flags.writeable = False
        # Forgotten with `host`, whose id another array may have next.
        _known[place] = copy, weakref.ref(host, lambda _: _known.pop(place, None))
    return _known[place][0]


def _uploaded(host, device):
    key = (device, host.shape, host.tobytes())
    if key not in _tables:
        if backend.current_capture() is not None:
            raise RuntimeError(
                "captured step: it needs a table that its first, eager call did not upload: a step must do the same "
                "at every call"
            )
        import cupy

        with cupy.cuda.Device(device):
            _tables[key] = cupy.asarray(host)
            # Whoever reads it next may do so on another stream.
            cupy.cuda.get_current_stream().synchronize()
    return _tables[key]


def _flat(array):
    # Wrapped as a device array: a bare one would be copied to and fro, which breaks kernels that work in place.
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

    return FakeCUDAArray(array.view(np.ndarray).reshape(-1))
