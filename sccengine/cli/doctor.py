"""``sccengine doctor``: what works on this machine, what is missing and how to get it."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import time
from pathlib import Path

import click
import numpy as np

from sccengine import ChannelWindows, Tensor, __version__, backend
from sccengine.cli.options import json_option, print_json

_VARIABLES = (
    "SCCENGINE_DEVICE",
    "SCCENGINE_SEED",
    "SCCENGINE_DATA_DIR",
    "SCCENGINE_CACHE_DIR",
    "SCCENGINE_TUNING",
    "NUMBA_NUM_THREADS",
    "NUMBA_ENABLE_CUDASIM",
    "NUMBA_CACHE_DIR",
    "CUDA_VISIBLE_DEVICES",
)
_OPTIONAL = {
    "cupy": ("GPU arrays", 'pip install "sccengine[cuda13x]" (or cuda12x)'),
    "PIL": ("image files", 'pip install "sccengine[images]"'),
    "onnx": ("export", 'pip install "sccengine[onnx]"'),
    "onnxruntime": ("checks of exports", 'pip install "sccengine[onnx]"'),
    "optuna": ("nsga2 and tpe of explore", 'pip install "sccengine[explore]"'),
    "optuna_dashboard": ("explore dashboard", 'pip install "sccengine[explore]"'),
    "psycopg": ("explore --storage", 'pip install "sccengine[explore]"'),
    "IPython": ("notebooks", 'pip install "sccengine[notebooks]"'),
}
_TOLERANCE = 1e-4  # float32 sums over 8 channels


@click.command()
@json_option
@click.pass_context
def doctor(ctx, as_json):
    """Versions, devices, optional parts; runs one small sliding-channel convolution on every device that is there.

    The first time this compiles the CPU kernels it needs, which takes some seconds. Exit code 1 if the CPU does not
    compute correctly; a missing GPU is no failure.

    \b
    Examples:
      sccengine doctor
      sccengine doctor --json > report.json
    """
    checks = [*_versions(), *_devices(), *_tuning(), *_optional_parts(), *_environment()]
    if as_json:
        print_json([{"what": what, "state": state, "detail": detail} for what, state, detail in checks])
    else:
        width = max(len(what) for what, _, _ in checks)
        for what, state, detail in checks:
            click.echo(f"{state:<7}  {what:<{width}}  {detail}".rstrip())
    if any(state == "broken" and what == "device cpu" for what, state, _ in checks):
        ctx.exit(1)


def _versions():
    yield "sccengine", "ok", __version__
    yield "python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    for name in ("numpy", "numba", "click", "rich", "safetensors", "matplotlib"):
        try:
            yield name, "ok", importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield name, "missing", f"pip install {name}"


def _devices():
    yield "processors", "ok", f"{os.cpu_count()} seen, kernels use {backend.num_threads()} threads"
    yield ("device cpu", *_try_device("cpu"))
    problem = backend.cuda_problem()
    if problem is not None:
        yield "device cuda", "missing", problem
    else:
        yield from _graphics_processors()
    try:
        backend.resolve_device("simulator")
        yield "device simulator", "ok", "Numba's CUDA simulator is on"
    except RuntimeError as error:
        yield "device simulator", "off", str(error)
    yield ("CUDA compiler", *_try_compiler())
    yield ("CPU kernels on disk", *_cpu_kernels_on_disk())
    yield ("CUDA kernels on disk", *_cuda_kernels_on_disk())


def _try_compiler():
    """Whether a kernel becomes machine code, which needs no GPU."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "missing", 'pip install "sccengine[cuda13x]" (or cuda12x)'
    start = time.perf_counter()
    try:
        from sccengine.kernels.cuda import add, compiler

        array, number = (True, np.dtype(np.float32)), (False, np.dtype(np.int32))
        compiler.compile_kernel(add.forward_v1, (array, array, array, number), (9, 0))
    except Exception as error:  # as for devices: whatever is wrong is what the doctor is asked for
        simulating = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
        return ("off", "Numba simulates CUDA") if simulating else ("broken", f"{type(error).__name__}: {error}")
    seconds = time.perf_counter() - start
    version, linker = importlib.metadata.version("numba-cuda"), compiler.linker()[0]
    return "ok", f"numba-cuda {version} with {linker} to link; a kernel for compute capability 9.0 took {seconds:.2f} s"


def _cpu_kernels_on_disk():
    from sccengine.kernels.cpu.compile import cache_folder

    folder = cache_folder()
    sizes = [path.stat().st_size for path in Path(folder).rglob("*.nb?")] if folder else []
    return _kernels_on_disk(folder, len(sizes), sum(sizes))


def _cuda_kernels_on_disk():
    from sccengine.kernels.cuda import cubin_cache

    return _kernels_on_disk(cubin_cache.folder(), *cubin_cache.size())


def _kernels_on_disk(folder, files, size):
    if folder is None:
        return (
            "off",
            "the cache folder cannot be written (see SCCENGINE_CACHE_DIR): kernels are compiled in each process",
        )
    return "ok", f"{files} files, {size / 2**20:.1f} MiB in {folder}"


def _graphics_processors():
    import cupy

    for index in range(cupy.cuda.runtime.getDeviceCount()):
        properties = cupy.cuda.runtime.getDeviceProperties(index)
        state, detail = _try_device(f"cuda:{index}")
        name = properties["name"].decode()
        capability = f"compute capability {properties['major']}.{properties['minor']}"
        memory = f"{properties['totalGlobalMem'] / 2**30:.0f} GiB"
        yield f"device cuda:{index}", state, f"{name}, {capability}, {memory}; {detail}"


def _try_device(device):
    """("ok", how long it took) or ("broken", why): one small convolution, compared with NumPy."""
    import sccengine.functional as F

    windows = ChannelWindows.sliding(16, 12, groups=2, overlap=0.5)
    random = np.random.default_rng(0)
    x = random.standard_normal((3, 16, 5, 4), np.float32)
    weight = random.standard_normal((12, windows.width), np.float32)
    dense = windows.scatter(weight)
    start = time.perf_counter()
    try:
        y = F.scc(Tensor(x, device=device), Tensor(weight, device=device), groups=2, overlap=0.5).numpy()
    except Exception as error:  # whatever is wrong with a device is what the doctor is asked for
        return "broken", f"{type(error).__name__}: {error}"
    difference = float(np.abs(y - np.einsum("oc,nchw->nohw", dense, x)).max())
    if not difference < _TOLERANCE:
        return "broken", f"a small convolution is wrong by {difference:.2g}"
    return "ok", f"a small convolution is right ({time.perf_counter() - start:.2f} s, compilation included)"


def _tuning():
    from sccengine import tuning
    from sccengine.kernels.cache_folder import writable

    store = tuning.store()
    known = f"mode {tuning.get_mode()}, {len(store.records())} problems timed in {store.folder}"
    if writable(store.folder) is None:
        yield "tuning", "missing", f"{known}, which cannot be written: set SCCENGINE_CACHE_DIR to a folder that can"
    else:
        yield "tuning", "ok", f"{known} (sccengine tune --show)"


def _optional_parts():
    for module, (purpose, remedy) in _OPTIONAL.items():
        try:
            version = getattr(importlib.import_module(module), "__version__", "")
            yield f"{module} ({purpose})", "ok", version
        except Exception as error:  # a broken CuPy raises more than ImportError
            yield f"{module} ({purpose})", "missing", f"{error}: {remedy}"


def _environment():
    for name in _VARIABLES:
        if name in os.environ:
            yield name, "set", os.environ[name]
