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
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numba import cuda
from numba.cuda import dispatcher
from numba.np.numpy_support import from_dtype

from tests.signatures import argument_types, builds

# Lines that `ptxas -v` prints for each kernel.
_MEMORY = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")
# An instruction that nvdisasm prints, perhaps under a predicate: ``/*0090*/  @!P0 LDG.E.128 R4, ...``.
_OPCODE = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", re.MULTILINE)
_SHARED = re.compile(r"(\d+) bytes smem")


def find_tool(name):
    """A program of NVIDIA's wheels, which match the compiler that numba-cuda installs; None if not installed."""
    spec = importlib.util.find_spec("nvidia")
    folders = spec.submodule_search_locations if spec else ()
    found = [path for folder in folders for path in Path(folder).glob(f"*/bin/{name}*") if path.stem == name]
    return found[0] if found else None


def main():
    capability = tuple(int(part) for part in sys.argv[1].split("."))
    # Numba asks the device for its capability before it compiles a device function; there is no device here.
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    ptxas = find_tool("ptxas")
    with tempfile.TemporaryDirectory() as folder:
        for module, build in builds():
            if capability < build.since:
                continue
            for dtype in build.dtypes:
                row = {"kernel": f"{module.__name__}.{build.kernel.py_func.__name__}", "codes": build.codes}
                row |= {"dtype": dtype, "registers_allowed": build.registers}
                row |= compile_kernel(build.kernel, build.codes, np.dtype(dtype), capability, ptxas, Path(folder))
                if "opcodes" in row:
                    row["absent"] = [each for each in build.instructions if not occurs(each, row["opcodes"])]
                print(json.dumps(row), flush=True)


def occurs(instruction, opcodes):
    """Whether an opcode has the first part of `instruction` and its further parts in this order: LDG.E.128 is found
    in LDG.E.LTC128B.128.CONSTANT."""
    first, *modifiers = instruction.split(".")
    for opcode in opcodes:
        name, *found = opcode.split(".")
        remaining = iter(found)
        if name == first and all(modifier in remaining for modifier in modifiers):
            return True
    return False


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
    command = [find_tool("nvdisasm"), folder / "kernel.cubin"]
    disassembled = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {
        "opcodes": Counter(_OPCODE.findall(disassembled)),
        "registers": int(_REGISTERS.search(done.stderr).group(1)),
        "stack": stack,
        "spill_stores": stores,
        "spill_loads": loads,
        "shared": int(shared.group(1)) if shared else 0,
        "float64_instructions": len(re.findall(r"\.f64\b", ptx)),
    }


if __name__ == "__main__":
    main()
