"""A kernel, its argument types and a compute capability become machine code, without a GPU if need be.

    name, cubin = machine_code(kernel, signature, (9, 0))

`signature` has a pair for each argument: whether it is an array, and its dtype. An array arrives as a bare pointer
(types.CPointer), which is one parameter and carries neither shape nor strides; a kernel indexes it, ``x[i]``, and may
ask for ``x.dtype``. The way is Numba -> PTX -> cubin. The last step belongs to nvJitLink, by way of cuda.core, which
numba-cuda brings along, or else to a ptxas on the PATH. A GPU never gets PTX: a driver older than the compiler
could not read it.

Arithmetic: products and sums contract to FMA (NVVM's default), nothing else. Numba's `fastmath` stays off: it would
flush denormal numbers and replace division and roots by approximations that lose infinities and NaN. Other options
of @cuda.jit than `launch_bounds` are not looked at.

Numba translates a device function once in a process, whatever the capability, and writes the machine code of each
kernel from that translation. For every capability this package knows the translation is the same, so one process
can serve GPUs of several generations.

Machine code is kept on disk (cubin_cache.py) under a hash of the sources of this package, of the kernel's own byte
code and everything it refers to (kernels are made by functions with constants of their own, too), of the types, the
capability and the versions of all that compiles.
"""

import functools
import hashlib
import importlib.metadata
import platform
import re
import shutil
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType, ModuleType, SimpleNamespace

import numpy as np
from numba import cuda, types
from numba.cuda import dispatcher
from numba.cuda.extending import infer_getattr, lower_getattr
from numba.cuda.typing.templates import AttributeTemplate
from numba.np.numpy_support import from_dtype

from sccengine.kernels.cuda import cubin_cache

_COMPILERS = (
    *("numba", "numba-cuda", "llvmlite", "cuda-core", "cuda-bindings"),
    *("nvidia-nvvm", "nvidia-nvjitlink", "nvidia-cuda-nvcc"),
    *("nvidia-cuda-nvcc-cu12", "nvidia-nvjitlink-cu12"),
)
# numba-cuda up to 0.30 asks for this name when it compiles for the first time, and NumPy has not had it since 2.5.
if not hasattr(np, "row_stack"):
    np.row_stack = np.vstack

_ENTRY = re.compile(r"\.visible \.entry (\w+)\(")
_turn = threading.RLock()


@infer_getattr
class _PointerAttributes(AttributeTemplate):
    """``x.dtype`` of a pointer, as arrays have it: for ``x.dtype.type(0)`` and ``cuda.shared.array(N, x.dtype)``."""

    key = types.CPointer

    def resolve_dtype(self, pointer):
        return types.DType(pointer.dtype)


@lower_getattr(types.CPointer, "dtype")
def _pointer_dtype(context, builder, kind, value):
    return context.get_dummy_value()


def machine_code(kernel, signature, capability):
    """(name of the entry, cubin) of `kernel` for these argument types on this capability, from the disk or compiled."""
    key = cache_key(kernel, signature, capability)
    kept = cubin_cache.load(key)
    if kept is None:
        name, cubin = compile_kernel(kernel, signature, capability)
        kept = name.encode() + b"\n" + cubin
        cubin_cache.store(key, kept)
    name, _, cubin = kept.partition(b"\n")
    return name.decode(), cubin


def compile_kernel(kernel, signature, capability):
    """The same, always compiled."""
    text = ptx(kernel, signature, capability)
    return entry_name(text), link(text, capability)


def ptx(kernel, signature, capability):
    """The PTX of `kernel` for these argument types."""
    numba_types = tuple(_numba_type(*each) for each in signature)
    options = {"launch_bounds": bounds} if (bounds := kernel.targetoptions.get("launch_bounds")) else {}
    with _compiling_for(capability):
        return cuda.compile(kernel.py_func, numba_types, cc=capability, device=False, abi="numba", **options)[0]


def entry_name(text):
    """The name that a kernel has in its PTX and in the cubin made of it."""
    return _ENTRY.search(text).group(1)


def link(text, capability):
    """The cubin of PTX."""
    architecture = "sm_{}{}".format(*capability)
    way, tool = linker()
    if way is None:
        raise RuntimeError(f"nothing turns PTX into machine code here: {tool}")
    if way == "cuda.core":
        options = tool.LinkerOptions(arch=architecture)
        return bytes(tool.Linker(tool.ObjectCode.from_ptx(text.encode()), options=options).link("cubin").code)
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(text)
        command = [tool, f"-arch={architecture}", source, "-o", result]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{tool}: {done.stderr.strip()}")
        return result.read_bytes()


@functools.cache
def linker():
    """("cuda.core", the module), ("ptxas", its path), or (None, what is missing)."""
    try:
        from cuda import core
        from cuda.bindings import nvjitlink

        core.Linker  # noqa: B018 - an old cuda-core has the name cuda.core, and nothing in it
        nvjitlink.version()
        return "cuda.core", core
    except Exception as error:  # cuda.bindings raises errors of its own where the library is missing
        reason = error
    ptxas = shutil.which("ptxas")
    return ("ptxas", ptxas) if ptxas else (None, f'nvJitLink ({reason}) and ptxas: pip install "numba-cuda[cu13]"')


@contextmanager
def _compiling_for(capability):
    """One thread at a time; device functions ask Numba's current device for its capability, and there may be none."""
    with _turn:
        before = dispatcher.get_current_device
        dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
        try:
            yield
        finally:
            dispatcher.get_current_device = before


def _numba_type(is_array, dtype):
    return types.CPointer(from_dtype(dtype)) if is_array else from_dtype(dtype)


def cache_key(kernel, signature, capability):
    """Hash of all that the machine code depends on."""
    letters = [f"{'*' if is_array else ''}{dtype}" for is_array, dtype in signature]
    digest = hashlib.sha256()
    for part in (_sources(), toolchain(), letters, capability, kernel.targetoptions.get("launch_bounds")):
        digest.update(f"{part}\n".encode())
    for part in _meaning(kernel, set()):
        digest.update(f"{part}\n".encode())
    return digest.hexdigest()


@functools.cache
def _sources():
    files = sorted(Path(__file__).parent.glob("*.py"))
    return [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]


@functools.cache
def toolchain():
    """[(name, version)] of everything that takes part in compiling."""
    found = [("python", platform.python_version()), ("linker", linker()[0])]
    for name in _COMPILERS:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _meaning(value, seen):
    """What a kernel consists of: its byte code, and the values of the names in it, device functions alike."""
    value = getattr(value, "py_func", value)
    if isinstance(value, FunctionType):
        if value in seen:
            return
        seen.add(value)
        yield value.__qualname__
        yield from _meaning(value.__code__, seen)
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        referred = [value.__globals__[name] for name in _names(value.__code__) if name in value.__globals__]
        for each in (*cells, *referred):
            yield from _meaning(each, seen)
    elif isinstance(value, CodeType):
        yield value.co_code.hex()
        for constant in value.co_consts:
            yield from _meaning(constant, seen)
    elif not isinstance(value, ModuleType):
        # The address in the text of an object differs from process to process.
        yield re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _names(code):
    """Global names and attributes that a code object and those inside it mention."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
