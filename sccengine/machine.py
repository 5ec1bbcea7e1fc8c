"""What a measurement says about the machine and the packages that it was made with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from functools import cache
from pathlib import Path

import sccengine

_PACKAGES = ("numpy", "numba", "numba-cuda", "cupy-cuda12x", "cupy-cuda13x")


def describe_machine():
    """{"processor", "cores" that this process may use, "system"}."""
    return {"processor": processor(), "cores": cores(), "system": platform.platform()}


def versions(*more):
    """Versions of the engine, Python and packages, and of `more`; those that are not installed are left out."""
    found = {"sccengine": sccengine.__version__, "python": platform.python_version()}
    for name in (*_PACKAGES, *more):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cores():
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@cache
def processor():
    """The name that the operating system has for the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
