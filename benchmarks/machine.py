"""What a benchmark row says about its machine, and the two measured ceilings that its floors are made of.

    python benchmarks/machine.py [--device cuda]

prints the description and the ceilings as JSON. ``ceilings`` runs that in a process of its own, so that BLAS's worker
threads do not disturb what is timed afterwards.

gemm         operations per second (2 per multiply-accumulate) of the fastest dense float32 product found
memory       bytes per second, read plus written, of a copy between buffers far larger than the last-level cache
cache        the same for buffers that stay in the cache nearest to each core (or in a GPU's L2)

Every ceiling is the best of many tries: a floor made of it can be too low, never too high.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

_PACKAGES = ("sccengine", "numpy", "numba", "numba-cuda", "cupy-cuda12x", "cupy-cuda13x", "cupy", "torch")


def cores():
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def last_level_cache_bytes():
    """Size of the largest cache that the operating system names, 32 MiB where it names none."""
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        sizes.append(int(text[:-1]) * {"K": 2**10, "M": 2**20}.get(text[-1], 1))
    return max(sizes, default=2**25)


def versions():
    """Versions of what takes part, by package; those that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if "sccengine" not in found:
        import sccengine

        found["sccengine"] = sccengine.__version__
    return found


def describe(device):
    """Machine in words and numbers: a dict for a benchmark row."""
    described = {"device": device, "processor": _processor(), "cores": cores(), "system": platform.platform()}
    if device == "cuda":
        import cupy

        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        described.update(
            gpu=properties["name"].decode(),
            compute_capability=f"{properties['major']}.{properties['minor']}",
            driver=cupy.cuda.runtime.driverGetVersion(),
            runtime=cupy.cuda.runtime.runtimeGetVersion(),
        )
    return described


def _processor():
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def ceilings(device):
    """{"gemm", "memory", "cache"} of this machine, measured now in a fresh process."""
    command = [sys.executable, __file__, "--device", device]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"measuring the ceilings of {device} failed: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout)["ceilings"]


def measure_ceilings(device):
    """The ceilings, measured in this process."""
    return _measure_gpu() if device == "cuda" else _measure_cpu()


def _measure_cpu():
    large = last_level_cache_bytes()
    return {
        "gemm": max(_cpu_gemms()),
        "memory": _cpu_copy(min(large, 2**28), repeats=1, tries=6),
        "cache": _cpu_copy(2**19, repeats=400, tries=8),
    }


def _cpu_gemms():
    rng = np.random.default_rng(0)
    for shape in ((512, 512, 8192), (1024, 1024, 1024), (2048, 2048, 1024)):
        rows, inner, columns = shape
        a = rng.standard_normal((rows, inner), dtype=np.float32)
        b = rng.standard_normal((inner, columns), dtype=np.float32)
        out = np.empty((rows, columns), np.float32)
        for _ in range(12):
            started = time.perf_counter()
            np.matmul(a, b, out=out)
            yield 2 * rows * inner * columns / (time.perf_counter() - started)


def _cpu_copy(size, repeats, tries):
    """Bytes per second of copies, one thread a core, each copying its own buffers of ``size`` bytes together."""
    count = cores()
    pairs = [(np.ones(size // 8 // count), np.ones(size // 8 // count)) for _ in range(count)]
    best = 0.0
    for _ in range(tries):
        gate = threading.Barrier(count + 1)

        def work(source, target, gate=gate):
            gate.wait()
            for _ in range(repeats):
                np.copyto(target, source)

        threads = [threading.Thread(target=work, args=pair) for pair in pairs]
        for thread in threads:
            thread.start()
        gate.wait()
        started = time.perf_counter()
        for thread in threads:
            thread.join()
        best = max(best, 2 * size * repeats / (time.perf_counter() - started))
    return best


def _measure_gpu():
    import cupy
    from timers import CudaTimer

    timer = CudaTimer()
    rng = cupy.random.default_rng(0)

    def best_rate(amount, run):
        run()
        return amount / min(seconds for _ in range(5) for seconds in timer.sample(run, "warm", 4))

    gemm = 0.0
    for size in (2048, 4096, 8192):
        a, b = (rng.standard_normal((size, size), dtype=cupy.float32) for _ in range(2))
        out = cupy.empty_like(a)
        gemm = max(gemm, best_rate(2 * size**3, lambda a=a, b=b, out=out: cupy.matmul(a, b, out=out)))
    rates = {}
    l2 = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["l2CacheSize"]
    for name, size in (("memory", 2**30), ("cache", max(l2 // 8, 2**20))):
        source, target = cupy.ones(size // 4, cupy.float32), cupy.ones(size // 4, cupy.float32)
        rates[name] = best_rate(2 * size, lambda s=source, t=target: cupy.copyto(t, s))
    return {"gemm": gemm, "memory": rates["memory"], "cache": max(rates.values())}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Describe this machine and measure its ceilings.")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    device = parser.parse_args().device
    print(json.dumps({"machine": describe(device), "versions": versions(), "ceilings": measure_ceilings(device)}))
