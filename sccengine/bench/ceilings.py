"""The measured ceilings that floors are made of.

    python -m sccengine.bench.ceilings [--device cuda:0]

prints them as JSON with the machine's description. ``measure`` runs that in a process of its own, so that BLAS's worker
threads do not disturb what is timed afterwards.

gemm         operations per second (2 per multiply-accumulate) of the fastest dense float32 product found, by BLAS or by
             the engine's own contraction, which comes nearer to the peak on some machines
memory       bytes per second, read plus written, of a copy between buffers far larger than the last-level cache
cache        the same for buffers that stay in the cache nearest to each core (or in a GPU's L2)

Every ceiling is the best of many tries: a floor made of it can be too low, never too high.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time

import numpy as np

from sccengine.backend import kernels_for
from sccengine.bench import machine
from sccengine.bench.timers import CudaTimer
from sccengine.machine import cores
from sccengine.windows import ChannelWindows


def measure(device):
    """{"gemm", "memory", "cache"} of this machine, measured now in a fresh process."""
    command = [sys.executable, "-m", "sccengine.bench.ceilings", "--device", device]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"measuring the ceilings of {device} failed: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout)["ceilings"]


class Ceilings:
    """The machine's ceilings, measured on first use; ``again`` measures once more and keeps the best of each."""

    def __init__(self, device, measure=measure):
        self.device = device
        self._measure = measure
        self._values = None

    @property
    def values(self):
        if self._values is None:
            self._values = dict(self._measure(self.device))
        return self._values

    def again(self):
        self._values = {name: max(value, self.values[name]) for name, value in self._measure(self.device).items()}
        return self._values


def _measure_here(device):
    return _measure_cpu() if device == "cpu" else _measure_gpu(device)


def _measure_cpu():
    large = machine.last_level_cache_bytes()
    return {
        "gemm": max(_cpu_gemms()),
        "memory": _cpu_copy(min(large, 2**28), repeats=1, tries=6),
        "cache": _cpu_copy(2**19, repeats=400, tries=8),
    }


def _cpu_gemms():
    def by_contraction(a, b, out):
        kernels_for(b).scc.forward(b, a, None, out, ChannelWindows.dense(*reversed(a.shape)))

    rng = np.random.default_rng(0)
    for rows, inner, columns in ((128, 128, 4096), (512, 512, 8192), (1024, 1024, 1024), (2048, 2048, 1024)):
        a = rng.standard_normal((rows, inner), dtype=np.float32)
        b = rng.standard_normal((inner, columns), dtype=np.float32)
        out = np.empty((rows, columns), np.float32)
        for multiply in np.matmul, by_contraction:
            for _ in range(12):
                started = time.perf_counter()
                multiply(a, b, out)
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


def _measure_gpu(device):
    import cupy

    cupy.cuda.Device(int(device.partition(":")[2] or 0)).use()
    timer = CudaTimer()
    rng = cupy.random.default_rng(0)

    def best_rate(amount, run):
        run()
        return amount / min(seconds for _ in range(5) for seconds in timer.sample(run, "warm", 4))

    def by_contraction(a, b, out):
        kernels, windows = kernels_for(b).scc, ChannelWindows.dense(*reversed(a.shape))
        kernels.forward(b, a, None, out, windows, kernels.choose("forward", windows, out, "highest"))

    gemm = 0.0
    for size in (2048, 4096):
        a, b = (rng.standard_normal((size, size), dtype=cupy.float32) for _ in range(2))
        out = cupy.empty_like(a)
        for multiply in (lambda *arrays: cupy.matmul(*arrays[:2], out=arrays[2]), by_contraction):
            gemm = max(gemm, best_rate(2 * size**3, lambda f=multiply, arrays=(a, b, out): f(*arrays)))
    rates = {}
    l2 = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["l2CacheSize"]
    for name, size in (("memory", 2**30), ("cache", max(l2 // 8, 2**20))):
        source, target = cupy.ones(size // 4, cupy.float32), cupy.ones(size // 4, cupy.float32)
        rates[name] = best_rate(2 * size, lambda s=source, t=target: cupy.copyto(t, s))
    return {"gemm": gemm, "memory": rates["memory"], "cache": max(rates.values())}


def main():
    parser = argparse.ArgumentParser(description="Describe this machine and measure its ceilings.")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:<index>")
    device = parser.parse_args().device
    values = _measure_here(device)
    print(json.dumps({"machine": machine.describe(device), "versions": machine.versions(), "ceilings": values}))


if __name__ == "__main__":
    main()
