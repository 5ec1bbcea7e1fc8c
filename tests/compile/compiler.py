"""Compiles every CUDA kernel to machine code for one compute capability, without a GPU; prints a row of JSON each.

    python -m tests.compile.compiler 9.0

A process compiles for one capability only: Numba keeps the code of a device function once it has compiled it, and
would use it again for another capability.
"""

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numba import cuda
from numba.cuda import dispatcher
from numba.np.numpy_support import from_dtype

from tests.signatures import argument_types, kernel_modules

# Lines that `ptxas -v` prints for each kernel.
_MEMORY = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


def find_ptxas():
    """The ptxas of NVIDIA's wheels, which matches the compiler that numba-cuda installs; None if not installed."""
    spec = importlib.util.find_spec("nvidia")
    folders = spec.submodule_search_locations if spec else ()
    found = [path for folder in folders for path in Path(folder).glob("*/bin/ptxas*") if path.stem == "ptxas"]
    return found[0] if found else None


def main():
    capability = tuple(int(part) for part in sys.argv[1].split("."))
    # Numba asks the device for its capability before it compiles a device function; there is no device here.
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    ptxas = find_ptxas()
    with tempfile.TemporaryDirectory() as folder:
        for module in kernel_modules():
            for kernel, codes in getattr(module, "COMPILE", ()):
                for dtype in ("float32", "float64"):
                    row = {"kernel": f"{module.__name__}.{kernel.py_func.__name__}", "codes": codes, "dtype": dtype}
                    row |= compile_kernel(kernel, codes, np.dtype(dtype), capability, ptxas, Path(folder))
                    print(json.dumps(row), flush=True)


def compile_kernel(kernel, codes, dtype, capability, ptxas, folder):
    signature = tuple(
        from_dtype(each)[::1] if is_array else from_dtype(each) for is_array, each in argument_types(codes, dtype)
    )
    try:
        ptx, _ = cuda.compile(kernel.py_func, signature, cc=capability, device=False, abi="numba")
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    (folder / "kernel.ptx").write_text(ptx)
    architecture = "sm_{}{}".format(*capability)
    command = [ptxas, "-v", f"-arch={architecture}", folder / "kernel.ptx", "-o", folder / "kernel.cubin"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {"error": done.stderr}
    stack, stores, loads = (int(number) for number in _MEMORY.search(done.stderr).groups())
    shared = _SHARED.search(done.stderr)
    return {
        "registers": int(_REGISTERS.search(done.stderr).group(1)),
        "stack": stack,
        "spill_stores": stores,
        "spill_loads": loads,
        "shared": int(shared.group(1)) if shared else 0,
        "float64_instructions": len(re.findall(r"\.f64\b", ptx)),
    }


if __name__ == "__main__":
    main()
