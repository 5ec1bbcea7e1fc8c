"""Host time of a kernel launch: the engine's launcher, numba-cuda's own, and cupy.RawKernel, in turns in one run.

    python benchmarks/bench_launch.py [--list] [--axis arguments=12] [--json FILE]

All three launch the same small kernel on CuPy's current stream: y = the sum of the other arrays. The engine and
numba-cuda are given the same `@cuda.jit` function. The mode that counts is `host`, until the call returns; the
kernel itself is so short that the queue never fills. The target is 8 us for twelve arguments.
"""

from __future__ import annotations

import sys

import numpy as np
import peers

from sccengine.bench import catalog
from sccengine.bench.case import Benchmark, Candidate, Case, Work

ELEMENTS = 256
# (arrays, numbers) of the kernels; one array is the result, and one number the count of elements.
KERNELS = ((3, 1), (5, 7))


def make_kernel(arrays, numbers):
    """The kernel as a `@cuda.jit` function; the numbers after the first are not used."""
    from numba import cuda

    inputs = [f"x{i}" for i in range(arrays - 1)]
    unused = [f"n{i}" for i in range(numbers - 1)]
    text = (
        f"def kernel({', '.join([*inputs, 'y', 'count', *unused])}):\n"
        "    i = cuda.grid(1)\n"
        "    if i < count:\n"
        f"        y[i] = {' + '.join(f'{name}[i]' for name in inputs)}\n"
    )
    names = {"cuda": cuda, "__name__": __name__}
    exec(text, names)
    return cuda.jit(names["kernel"])


def make_raw_kernel(arrays, numbers):
    """The kernel as a cupy.RawKernel."""
    import cupy

    inputs = [f"x{i}" for i in range(arrays - 1)]
    parameters = [f"const float* {name}" for name in inputs] + ["float* y", "int count"]
    parameters += [f"int n{i}" for i in range(numbers - 1)]
    text = (
        f'extern "C" __global__ void kernel({", ".join(parameters)}) {{ '
        "int i = blockIdx.x * blockDim.x + threadIdx.x; "
        f"if (i < count) y[i] = {' + '.join(f'{name}[i]' for name in inputs)}; }}"
    )
    return cupy.RawKernel(text, "kernel")


def arguments_of(inputs, numbers):
    """The arrays on the device, the result last, and the numbers."""
    import cupy

    arrays = [cupy.asarray(inputs[name]) for name in sorted(inputs)]
    return (*arrays, cupy.zeros_like(arrays[0])), (ELEMENTS, *range(1, numbers))


def candidates_of(arrays, numbers):
    def engine(inputs):
        from sccengine.kernels.cuda import launch

        device, counts = arguments_of(inputs, numbers)
        kernel = make_kernel(arrays, numbers)

        def run():
            launch.blocks(kernel, 1, ELEMENTS, *device, *counts)
            return device[-1]

        return run

    def numba(inputs):
        import cupy
        from numba import cuda

        device, counts = arguments_of(inputs, numbers)
        kernel = make_kernel(arrays, numbers)

        def run():
            kernel[1, ELEMENTS, cuda.external_stream(cupy.cuda.get_current_stream().ptr)](*device, *counts)
            return device[-1]

        return run

    def raw(inputs):
        device, counts = arguments_of(inputs, numbers)
        kernel = make_raw_kernel(arrays, numbers)

        def run():
            kernel((1,), (ELEMENTS,), (*device, *map(np.int32, counts)))
            return device[-1]

        return run

    def read(y):
        return {"y": y.get()}

    return [
        Candidate("sccengine", "engine", engine, read),
        Candidate("numba-cuda", "numba-cuda", numba, read),
        Candidate("cupy.RawKernel", "cupy", raw, read),
    ]


def case(axes, device):
    """The case of one kernel; only a GPU has launches."""
    if not device.startswith("cuda"):
        raise ValueError("launches are timed on a GPU only: --device cuda")
    arrays, numbers = axes["arrays"], axes["arguments"] - axes["arrays"]

    def draw(rng):
        return {f"x{i}": rng.standard_normal(ELEMENTS, np.float32) for i in range(arrays - 1)}

    return Case(
        axes,
        candidates_of(arrays, numbers),
        Work((arrays - 2) * ELEMENTS, 4 * arrays * ELEMENTS),
        draw,
        lambda inputs: {"y": sum(each.astype(np.float64) for each in inputs.values())},
        headline="host",
    )


PROBLEMS = [{"arguments": arrays + numbers, "arrays": arrays} for arrays, numbers in KERNELS]


if __name__ == "__main__":
    catalog.add(Benchmark("launch", PROBLEMS, PROBLEMS, case, "sccengine"))
    sys.exit(peers.run(["bench", "launch", "--device", "cuda", *sys.argv[1:]]))
