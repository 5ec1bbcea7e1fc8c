"""What a timing depends on, as plain values: problem, device, versions; and how an operator is called for a timing.

The key of a problem's timings (timings.py) is made of these; so are the rows of tuning_table.json, for a family of
devices instead of one. OPERATORS has an entry for every operator that tuning.py chooses variants for.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sccengine import backend
from sccengine.machine import processor


def is_current(record, device):
    """Whether a record is of this device and these versions."""
    key = record["key"]
    return key.get("device") == device_key(device) and key.get("versions") == kernel_versions(device)


def device_key(device):
    """What a device is to timings. `family` is what it is to the table."""
    kind, _, index = device.partition(":")
    if kind == "cpu":
        family = f"cpu, vectors of {backend.kernels_for(np.empty(0)).simd.VECTOR_BYTES} bytes"
        return {"family": family, "name": processor(), "threads": backend.num_threads()}
    if kind == "simulator":
        return {"family": kind, "name": kind}
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(int(index))
    return {"family": "cuda {major}.{minor}".format(**properties), "name": properties["name"].decode()}


def family_key(key):
    """The key of a row of the table for the key of a timing: a family of devices, of any version."""
    general = {name: value for name, value in key.items() if name not in ("device", "versions")}
    return {**general, "family": key["device"]["family"]}


@functools.cache
def kernel_versions(device):
    """A hash of the sources of the kernels, and the versions of what compiles and runs them."""
    on_cpu = device == "cpu"
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).with_name("kernels").joinpath("cpu" if on_cpu else "cuda").glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    found = {"kernels": digest.hexdigest()[:16], "numba": _version("numba")}
    if device.startswith("cuda"):
        import cupy

        found["numba-cuda"] = _version("numba-cuda")
        found["driver"] = cupy.cuda.runtime.driverGetVersion()
    return found


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def size_class(columns):
    """`columns` rounded up to 2**k or 1.5 * 2**k, and whether rows start at multiples of four elements."""
    power = 1 << (max(columns, 1) - 1).bit_length()
    return [power * 3 // 4 if columns * 4 <= power * 3 else power, columns % 4 == 0]


class Operator(NamedTuple):
    """What timings need to know of an operator."""

    describe: object  # problem -> dict of plain values that tells it from others, columns apart
    operations: object  # (problem, columns) -> arithmetic operations
    call: object  # (kernels, launcher, problem, columns, scratch) -> function of a variant's name; scratch(*shape)


def _describe_windows(windows):
    channels, filters, shift = windows.in_channels, windows.out_channels, windows.shift
    sliding = np.array_equal(windows.starts, np.arange(filters) * shift % channels)
    return {
        "windows": "dense" if shift == 0 else "sliding" if sliding else "grouped",
        "in_channels": channels,
        "out_channels": filters,
        "width": windows.width,
        "shift": shift,
    }


def _contraction(kernels, launcher, windows, columns, scratch):
    x, y = scratch(windows.in_channels, columns), scratch(windows.out_channels, columns)
    weight = scratch(windows.out_channels, windows.width)
    if launcher == "forward":
        return lambda name: kernels.forward(x, weight, None, y, windows, name)
    if launcher == "backward_input":
        return lambda name: kernels.backward_input(y, weight, x, windows, name)
    return lambda name: kernels.backward_weight(y, x, weight, windows, name)


OPERATORS = {
    "scc": Operator(_describe_windows, lambda windows, columns: 2 * windows.macs(columns), _contraction),
}
