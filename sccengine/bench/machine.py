"""What a benchmark row says about its machine: processor, GPU, cores, caches, versions."""

from __future__ import annotations

from pathlib import Path

from sccengine import machine


def last_level_cache_bytes():
    """Size of the largest cache that the operating system names, 32 MiB where it names none."""
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        sizes.append(int(text[:-1]) * {"K": 2**10, "M": 2**20}.get(text[-1], 1))
    return max(sizes, default=2**25)


def versions():
    """Versions of what takes part, by package, peers included; those that are not installed are left out."""
    return machine.versions("cupy", "torch")


def describe(device):
    """Machine in words and numbers, for a benchmark row; ``device`` is "cpu" or the current "cuda:<index>"."""
    described = {"device": device.partition(":")[0], **machine.describe_machine()}
    if device != "cpu":
        import cupy

        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        described.update(
            gpu=properties["name"].decode(),
            compute_capability=f"{properties['major']}.{properties['minor']}",
            driver=cupy.cuda.runtime.driverGetVersion(),
            runtime=cupy.cuda.runtime.runtimeGetVersion(),
        )
    return described
