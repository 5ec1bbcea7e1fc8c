"""Every CUDA kernel becomes machine code for compute capability 7.5, 8.0 and 9.0, and keeps its values in registers.

Needs no GPU, but numba-cuda with its compiler and NVIDIA's ptxas: ``pip install "sccengine[test-cuda]"``. Without them
the tests are skipped; with SCCENGINE_REQUIRE_COMPILE=1 they fail instead.
"""

import importlib.util
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

CAPABILITIES = ("7.5", "8.0", "9.0")
# Compilers at work at the same time.
PROCESSES = 2
ROOT = Path(__file__).parents[2]


def missing():
    """What stands in the way of compiling here, as one sentence; None if nothing does."""
    if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
        return "Numba simulates CUDA in this process: run tests/compile without NUMBA_ENABLE_CUDASIM"
    if importlib.util.find_spec("numba_cuda") is None:
        return 'numba-cuda is not installed: pip install "sccengine[test-cuda]"'
    from tests.compile.compiler import find_tool

    absent = [name for name in ("ptxas", "cuobjdump", "nvdisasm") if find_tool(name) is None]
    return f'{" and ".join(absent)} not installed: pip install "sccengine[test-cuda]"' if absent else None


@pytest.fixture(scope="module")
def compiled():
    """The compiler's rows."""
    problem = missing()
    if problem and os.environ.get("SCCENGINE_REQUIRE_COMPILE") == "1":
        pytest.fail(problem)
    if problem:
        pytest.skip(problem)
    with ThreadPoolExecutor(PROCESSES) as pool:
        return [row for rows in pool.map(_compile, range(PROCESSES)) for row in rows]


def _compile(part):
    command = [sys.executable, "-m", "tests.compile.compiler", str(part), str(PROCESSES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_kernels_compile_and_stay_in_registers(compiled, capability, record_property):
    faults = []
    rows = [row for row in compiled if row["capability"] == capability]
    for row in rows:
        name = f"{row['kernel']} {row['codes']} {row['dtype']}"
        record_property(name, json.dumps(row))
        if "error" in row:
            faults.append(f"{name}: {row['error']}")
            continue
        if row["stack"]:
            faults.append(f"{name}: {row['stack']} bytes of stack: registers spilled, or an array is not in registers")
        if not 0 < row["registers"] <= row["registers_allowed"]:
            faults.append(f"{name}: {row['registers']} registers, {row['registers_allowed']} allowed")
        if row["absent"]:
            faults.append(f"{name}: no {', '.join(row['absent'])} among {' '.join(row['opcodes'])}")
        if row["dtype"] == "float32" and row["float64_instructions"] and not set("Dd") & set(row["codes"]):
            faults.append(f"{name}: computes in float64 what is float32")
    assert rows
    assert not faults, "\n".join(faults)


@pytest.mark.slow
def test_every_kernel_is_declared():
    problem = missing()
    if problem:
        pytest.skip(problem)
    from numba.cuda.dispatcher import CUDADispatcher

    from tests.signatures import kernel_modules

    for module in kernel_modules():
        declared = {build.kernel for build in getattr(module, "COMPILE", ())}
        for name, value in vars(module).items():
            if isinstance(value, CUDADispatcher) and value.py_func.__module__ == module.__name__:
                is_device = value.targetoptions.get("device")
                assert is_device or value in declared, f"{module.__name__}.{name} is missing from COMPILE"
