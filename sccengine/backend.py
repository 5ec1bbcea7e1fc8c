"""Devices and arrays: where data lives, how it is laid out, which kernels serve it, and counter-based randomness.

Devices are named by strings: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``, ``"simulator"`` (the CUDA kernels in Numba's
simulator, on NumPy arrays), and ``"auto"`` (CUDA where it works, else the CPU; it says once what it chose).

Activations are batch-last in memory: to the user (N, C, H, W), in memory C, H, W, N contiguous. ``rows`` gives the
C-contiguous array that kernels see, ``from_rows`` the user's view of it.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import threading
from functools import cache

import numpy as np

from sccengine import memory, numeric


class GuardedArray(np.ndarray):
    """A NumPy array from which NumPy must keep off while a step is being captured: only launches are replayed."""

    def __array_wrap__(self, array, context=None, *settings):
        self._only_kernels(f"numpy.{context[0].__name__}" if context else "a NumPy function")
        return super().__array_wrap__(array, context, *settings)

    def __array_function__(self, function, types, args, kwargs):
        if function is not np.empty_like:  # allocates, and computes nothing
            self._only_kernels(f"numpy.{function.__name__}")
        return super().__array_function__(function, types, args, kwargs)

    def __setitem__(self, index, value):
        self._only_kernels("array[...] = value")
        super().__setitem__(index, value)

    def fill(self, value):
        self._only_kernels("array.fill()")
        super().fill(value)

    def copy(self, order="C"):
        self._only_kernels("array.copy()")
        return super().copy(order)

    def astype(self, dtype, *settings, copy=True, **more):
        if copy or dtype != self.dtype:
            self._only_kernels("array.astype()")
        return super().astype(dtype, *settings, copy=copy, **more)

    def _only_kernels(self, operation):
        if current_capture() is not None:
            raise RuntimeError(
                f"captured step: {operation} on an array of device {device_of(self)!r} is no launch of a kernel, so a "
                "replay would leave it out"
            )


class SimulatorArray(GuardedArray):
    """A NumPy array on device ``"simulator"``: the type alone tells ``kernels_for`` to run the CUDA kernels."""


# --- devices ------------------------------------------------------------------------------------------------------


@cache
def cuda_problem():
    """None where CUDA can be used, else one sentence on what is missing. Probed once."""
    if _simulating():
        return "NUMBA_ENABLE_CUDASIM=1 is set, so Numba simulates CUDA: unset it to use a GPU"
    try:
        import cupy
    except Exception as error:  # a broken CuPy raises more than ImportError; the reason is kept for `doctor`
        return f'CuPy cannot be imported ({error}): pip install "sccengine[cuda13x]" or "sccengine[cuda12x]"'
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        return f"CuPy finds no usable CUDA driver or device ({error})"
    if count < 1:
        return "no CUDA device is visible (see CUDA_VISIBLE_DEVICES)"
    try:
        import numba.cuda  # noqa: F401
    except Exception as error:
        return f"numba.cuda cannot be imported ({error}): pip install numba-cuda"
    return None


def _simulating():
    if "numba" in sys.modules:
        return bool(sys.modules["numba"].config.ENABLE_CUDASIM)
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")


def default_device():
    """The device of host arrays that name none: SCCENGINE_DEVICE, else ``"cpu"``."""
    return resolve_device(os.environ.get("SCCENGINE_DEVICE") or "cpu")


def resolve_device(device):
    """The full name of a device: ``"cpu"``, ``"cuda:<index>"`` or ``"simulator"``.

    Raises ValueError for a name that is no device, and RuntimeError, saying what is missing, for a device that
    cannot be used here: there is no silent fallback.
    """
    if device is None:
        return default_device()
    if not isinstance(device, str):
        raise TypeError(f"a device is a string such as 'cpu' or 'cuda:0', got {device!r}")
    if device == "auto":
        return _automatic_device()
    if device == "cpu":
        return device
    if device == "simulator":
        if not _simulating():
            raise RuntimeError(
                "device 'simulator' needs NUMBA_ENABLE_CUDASIM=1 in the environment before Python starts"
            )
        return device
    kind, _, index = device.partition(":")
    if kind != "cuda" or not (index.isdigit() or device == "cuda"):
        raise ValueError(f"unknown device {device!r}: use 'auto', 'cpu', 'cuda', 'cuda:<index>' or 'simulator'")
    problem = cuda_problem()
    if problem:
        raise RuntimeError(f"device {device!r} cannot be used: {problem}")
    import cupy

    count = cupy.cuda.runtime.getDeviceCount()
    index = int(index) if index else cupy.cuda.Device().id
    if index >= count:
        raise RuntimeError(f"device 'cuda:{index}' does not exist: {count} CUDA device(s) are visible, from 0")
    return f"cuda:{index}"


@cache
def _automatic_device():
    problem = cuda_problem()
    device = "cpu" if problem else resolve_device("cuda")
    print(f"sccengine: device 'auto' is {device}" + (f" ({problem})" if problem else ""), file=sys.stderr)
    return device


def device_of(array):
    """The name of the device on which an array lives."""
    if isinstance(array, np.ndarray):
        return "simulator" if isinstance(array, SimulatorArray) else "cpu"
    return _cuda_name(array.data.device_id)


@cache
def _cuda_name(index):
    return f"cuda:{index}"


def is_device_array(value):
    """Whether the value is an array of a GPU that CuPy made."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(value, cupy.ndarray)


def address(array):
    """Where the first element of an array of any device lies."""
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr


def kernels_for(array):
    """The kernel package for an array: every operator's launchers as attributes (``kernels_for(x).scc.forward``)."""
    if not isinstance(array, np.ndarray) or isinstance(array, SimulatorArray):
        return kernel_package("cuda")
    capture = current_capture()
    if capture is None:
        return kernel_package("cpu")
    if capture.device != "cpu":
        raise RuntimeError(
            f"captured step: it computes with an array of shape {array.shape} on the CPU, which a replay would leave "
            "out: move it to the device before the step"
        )
    return capture.kernels


@cache
def kernel_package(name):
    """sccengine.kernels.cpu or sccengine.kernels.cuda."""
    return importlib.import_module(f"sccengine.kernels.{name}")


def to_device(array, device):
    """The array on a device (by its full name), in the same memory order; the array itself where it is there."""
    if device_of(array) == device:
        return array
    if current_capture() is not None:
        raise RuntimeError(
            f"captured step: it copies an array of shape {array.shape} from {device_of(array)} to {device}: make it an "
            "input of the step, move it before the step, or return it and read it after the call"
        )
    if array.ndim >= 2 and not array.flags.c_contiguous:
        return from_rows(to_device(rows(array), device))
    host = array.view(np.ndarray) if isinstance(array, np.ndarray) else array.get()
    if device == "cpu":
        return host.copy() if isinstance(array, np.ndarray) else host
    if device == "simulator":
        return host.copy().view(SimulatorArray)
    import cupy

    with cupy.cuda.Device(int(device.partition(":")[2])):
        return cupy.asarray(host)


def refuse_constant(array):
    """Raise RuntimeError for an array of the host's own of which a step that is captured on the CPU makes a tensor.

    On a device it would have to be copied there, which ``to_device`` refuses.
    """
    if type(array) is np.ndarray and current_capture() is not None and current_capture().device == "cpu":
        raise RuntimeError(
            f"captured step: it makes a tensor of an array of shape {array.shape}, in which a replay would not see "
            "anything new: make it an input of the step, or a Tensor before the step"
        )


def overwrite(array, values):
    """Copy ``values``, of the same shape and dtype and in host memory or beside it, into ``array`` on a device.

    In the order of the device's stream, and without waiting for it.
    """
    target, source = rows(array), rows(values)
    if isinstance(target, np.ndarray):
        target.view(np.ndarray)[...] = source
    else:
        with target.device:
            target.data.copy_from_device_async(to_device(source, device_of(target)).data, target.nbytes)


def to_host(array, reader="a copy to the host"):
    """The array as a plain NumPy array: a view where it lives in host memory. ``reader``: who asks, for an error."""
    if current_capture() is not None and current_capture().device == device_of(array):
        raise RuntimeError(
            f"captured step: {reader} of a {array.dtype} tensor of shape {array.shape} reads on the host what is not "
            "computed before a replay: return the tensor from the step and read it after the call"
        )
    return array.view(np.ndarray) if isinstance(array, np.ndarray) else to_device(array, "cpu")


# --- memory order -------------------------------------------------------------------------------------------------


def rows(array):
    """The C-contiguous (C, ..., N) array of an (N, C, ...) array: a view where it lies batch-last, else a copy."""
    return contiguous(array if array.ndim < 2 else array.transpose(_batch_last(array.ndim)))


def from_rows(array):
    """The (N, C, ...) view of a (C, ..., N) array."""
    return array if array.ndim < 2 else array.transpose(_batch_first(array.ndim))


@cache
def _batch_last(rank):
    return (*range(1, rank), 0)


@cache
def _batch_first(rank):
    return (rank - 1, *range(rank - 1))


def contiguous(array):
    """The array itself where it is C-contiguous and writeable, else a C-contiguous copy."""
    flags = array.flags
    if flags.c_contiguous and getattr(flags, "writeable", True):
        return array
    if type(array) is np.ndarray:
        copy = memory.empty(array.shape, array.dtype)  # aligned: vectors that lie on two cache lines load more slowly
        copy[...] = array
        return copy
    return _on_device_of(array, lambda: array.copy(order="C"))


def empty(shape, like, dtype=None):
    """An uninitialised C-contiguous array on the device of ``like``, of its dtype unless one is given."""
    dtype = like.dtype if dtype is None else dtype
    if not isinstance(like, np.ndarray):
        # What cupy.empty makes, without its wrapper or one of ours: a step of a network makes hundreds.
        cupy = sys.modules["cupy"]
        if like.data.device_id == cupy.cuda.runtime.getDevice():
            return cupy.ndarray(shape, dtype)
        with like.device:
            return cupy.ndarray(shape, dtype)
    if not isinstance(like, SimulatorArray):
        return guarded(memory.empty(shape, dtype))
    array = np.empty(shape, dtype).view(SimulatorArray)
    if current_capture() is not None:
        current_capture().keep(array)
    return array


def _on_device_of(array, work):
    """``work()`` on the device of ``array``: CuPy itself makes and fills arrays on the current device."""
    if isinstance(array, np.ndarray) or array.data.device_id == sys.modules["cupy"].cuda.runtime.getDevice():
        return work()
    with array.device:
        return work()


def zeros(shape, like, dtype=None):
    """A C-contiguous array of zeros on the device of ``like``, of its dtype unless one is given."""
    return filled(shape, 0, like, dtype)


def filled(shape, value, like, dtype=None):
    """A C-contiguous array on the device of ``like`` in which every element is ``value``."""
    array = empty(shape, like, dtype)
    if array.dtype.kind == "f":
        kernels_for(array).copy.fill(array.reshape(-1), value)
    else:
        _on_device_of(array, lambda: array.fill(value))
    return array


def owner(array):
    """What owns an array's memory, of which the array may be a view: the same object for all views of it."""
    base = array.base
    while base is not None:
        array = base
        base = getattr(array, "base", None)
    return array


# --- captured steps -----------------------------------------------------------------------------------------------


class _Captures(threading.local):
    current = None


_captures = _Captures()


def current_capture():
    """The capture of a step that is in progress in this thread (capture.py), or None."""
    return _captures.current


def set_current_capture(capture):
    """Make ``capture`` the one in progress in this thread; None ends it."""
    _captures.current = capture


def guarded(array):
    """A GuardedArray over an array that lives where a step is being captured on the CPU, else the array itself."""
    if _captures.current is None or type(array) is not np.ndarray or _captures.current.device != "cpu":
        return array
    return array.view(GuardedArray)


def unguarded(array):
    """The plain NumPy array of one that was guarded."""
    return array.view(np.ndarray) if type(array) is GuardedArray else array


def host_value(fn, like, dtype):
    """``fn()``, a list of numbers that the host decides anew at every step, as a 1-D array on the device of ``like``.

    Learning rates, step numbers and random keys reach kernels through it. ``fn`` is called once for every step: here,
    and, if the step is being captured, before every further replay of it, which reads the new numbers from this array.
    So ``fn`` may draw keys and count steps.
    """
    capture = current_capture()
    if capture is not None:
        return capture.host_value(fn, np.dtype(dtype))
    return to_device(np.array(fn(), dtype).reshape(-1), device_of(like))


def between_launches(fn):
    """Call ``fn()``, which looks at what the launches so far computed: now, and in a step that is captured on the CPU
    at this place of every replay instead. On a device that would mean to wait for it: RuntimeError.
    """
    capture = current_capture()
    if capture is None:
        fn()
    elif capture.device == "cpu":
        capture.kernels.note(fn)
    else:
        raise RuntimeError(f"captured step: nothing can look on between the launches of a step on {capture.device}")


# --- randomness ---------------------------------------------------------------------------------------------------


def _seed_of_environment():
    text = os.environ.get("SCCENGINE_SEED") or "0"
    if not text.isdecimal():
        raise ValueError(f"SCCENGINE_SEED must be an integer of at least 0, got {text!r}")
    return int(text)


_random = {"seed": _seed_of_environment(), "counter": 0}


def set_seed(seed):
    """Start all of the engine's random numbers anew from an integer seed."""
    _random.update(seed=numeric.whole("set_seed", "the seed", seed, least=0), counter=0)


def next_key(purpose):
    """A fresh 64-bit key, a function of (seed, how many keys were drawn before, purpose) alone."""
    text = f"{_random['seed']}/{_random['counter']}/{purpose}"
    _random["counter"] += 1
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def random_state():
    """The state of the engine's random numbers, for a checkpoint: {"seed": int, "counter": int}."""
    return dict(_random)


def set_random_state(state):
    """Continue from a state that ``random_state`` gave."""
    _random.update(seed=int(state["seed"]), counter=int(state["counter"]))


# --- threads ------------------------------------------------------------------------------------------------------


def num_threads():
    """How many threads the CPU kernels use."""
    return _thread_pool().get_num_threads()


def set_num_threads(count):
    """Let the CPU kernels use ``count`` threads; results do not depend on it. ValueError beyond the machine's."""
    pool = _thread_pool()
    most = pool.config.NUMBA_NUM_THREADS
    if not 1 <= count <= most:
        raise ValueError(f"threads must be from 1 to {most} (NUMBA_NUM_THREADS), got {count}")
    pool.set_num_threads(count)


def _thread_pool():
    """Numba, which starts its threads when it is first asked about them: the CPU kernels say before then how."""
    importlib.import_module("sccengine.kernels.cpu.compile")
    import numba

    return numba
