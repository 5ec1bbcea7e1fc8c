"""Every CUDA kernel becomes machine code for compute capability 7.5, 8.0 and 9.0, and keeps its values in registers.

Needs no GPU, but numba-cuda with its compiler and NVIDIA's ptxas: ``pip install "sccengine[test-cuda]"``. Without them
the tests are skipped; with SCCENGINE_REQUIRE_COMPILE=1 they fail instead.
"""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.compile.needs import need_compiler

CAPABILITIES = ("7.5", "8.0", "9.0")
# Compilers at work at the same time.
PROCESSES = 2
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def compiled():
    """The compiler's rows."""
    need_compiler()
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
    need_compiler()
    from numba.cuda.dispatcher import CUDADispatcher

    from tests.signatures import kernel_modules

    for module in kernel_modules():
        declared = {build.kernel for build in getattr(module, "COMPILE", ())}
        for name, value in vars(module).items():
            if isinstance(value, CUDADispatcher) and value.py_func.__module__ == module.__name__:
                is_device = value.targetoptions.get("device")
                assert is_device or value in declared, f"{module.__name__}.{name} is missing from COMPILE"
