"""Compiles every CUDA kernel to machine code for one compute capability, without a GPU; prints a row of JSON each.

    python -m tests.compile.compiler 9.0

The code is made as for a launch on a GPU (sccengine/kernels/cuda/compiler.py), and then read with NVIDIA's own tools.
A row holds

    registers, stack               of a thread (stack in bytes: spills and arrays not in registers)
    local_instructions             loads and stores of that stack, in the kernel and its subroutines
    shared                         static, of a block, in bytes; on 9.0 with the 1024 that CUDA reserves
    float64_instructions           in the PTX
    opcodes                        {opcode with its modifiers: how often it stands in the code}
    absent                         what the Build wants and the code has not
"""

import functools
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from sccengine.kernels.cuda import compiler
from tests.signatures import argument_types, builds

# A cubin holds the kernel and, before or after it, subroutines such as that of a division, which have entries, too.
_USAGE = re.compile(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
# An instruction that nvdisasm prints, perhaps under a predicate: ``/*0090*/  @!P0 LDG.E.128 R4, ...``.
_OPCODE = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", re.MULTILINE)


@functools.cache
def find_tool(name):
    """A program of NVIDIA's wheels, which match the compiler that numba-cuda installs; None if not installed."""
    spec = importlib.util.find_spec("nvidia")
    folders = spec.submodule_search_locations if spec else ()
    found = [path for folder in folders for path in Path(folder).glob(f"*/bin/{name}*") if path.stem == name]
    return found[0] if found else None


def rows(capability):
    """A row for each Build and dtype that there is for this capability, one after the other."""
    for module, build in builds():
        for dtype in build.dtypes if capability >= build.since else ():
            row = {"kernel": f"{module.__name__}.{build.kernel.py_func.__name__}", "codes": build.codes}
            row |= {"dtype": dtype, "registers_allowed": build.registers}
            try:
                row |= measure(build.kernel, argument_types(build.codes, dtype), capability)
                row["absent"] = [each for each in build.instructions if not occurs(each, row["opcodes"])]
            except Exception as error:
                row["error"] = f"{type(error).__name__}: {error}"
            yield row


def measure(kernel, signature, capability):
    """What the machine code of a kernel is like."""
    ptx = compiler.ptx(kernel, signature, capability)
    name = compiler.entry_name(ptx)
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder, "kernel.cubin")
        cubin.write_bytes(compiler.link(ptx, capability))
        usage = {function: figures for function, *figures in _USAGE.findall(_output("cuobjdump", "-res-usage", cubin))}
        registers, stack, shared, local = map(int, usage[name])
        opcodes = Counter(_OPCODE.findall(_output("nvdisasm", cubin)))
    return {
        "registers": registers,
        "stack": stack + local,
        "shared": shared,
        "local_instructions": sum(opcodes[opcode] for opcode in opcodes if opcode.startswith(("LDL", "STL"))),
        "float64_instructions": len(re.findall(r"\.f64\b", ptx)),
        "opcodes": opcodes,
    }


def occurs(instruction, opcodes):
    """Whether an opcode has the first part of `instruction` and its further parts in this order.

    LDG.E.128 is found in LDG.E.LTC128B.128.CONSTANT.
    """
    first, *modifiers = instruction.split(".")
    for opcode in opcodes:
        name, *found = opcode.split(".")
        remaining = iter(found)
        if name == first and all(modifier in remaining for modifier in modifiers):
            return True
    return False


def _output(tool, *arguments):
    return subprocess.run([find_tool(tool), *arguments], capture_output=True, text=True, check=True).stdout


def main():
    capability = tuple(int(part) for part in sys.argv[1].split("."))
    for row in rows(capability):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
