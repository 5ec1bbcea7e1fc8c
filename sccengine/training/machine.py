"""What a measurement says about the machine and the packages that it was made with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

import sccengine
from sccengine import backend

_PACKAGES = ("numpy", "numba", "numba-cuda", "cupy-cuda12x", "cupy-cuda13x")


def describe_machine():
    """{"processor", "cores" that this process may use, "threads" of the kernels, "system"}."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(),
        "cores": cores,
        "threads": backend.num_threads(),
        "system": platform.platform(),
    }


def versions():
    """Versions by package; those that are not installed are left out."""
    found = {"sccengine": sccengine.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor():
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
