"""Compiles every CUDA kernel to machine code, without a GPU; prints a row of JSON for each dtype and capability.

    python -m tests.compile.compiler PART PARTS

The code is made as for a launch on a GPU (sccengine/kernels/cuda/compiler.py), and then read with NVIDIA's own tools.
Part PART, counted from 0, of PARTS of the kernels: for a process each. A row holds, beside names and types,

    registers, stack               of a thread (stack in bytes: spills and arrays not in registers)
    shared                         static, of a block, in bytes; on 9.0 with the 1024 that CUDA reserves
    float64_instructions           in the PTX
    opcodes                        {opcode with its modifiers: how often it stands in the code}, if the Build wants
                                   some: the disassembler takes half a second
    absent                         what the Build wants and the code has not
"""

import functools
import importlib.util
import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from numba.cuda import compiler as numba_compiler

from sccengine.kernels.cuda import compiler
from tests.signatures import argument_types, builds

CAPABILITIES = ((7, 5), (8, 0), (9, 0))

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


def rows(part=0, parts=1, disassemble=False, chosen=lambda name: True):
    """A row for each Build, dtype and capability; `disassemble` counts the opcodes of all.

    `chosen` is asked for names such as scc_tiles.contract_v1.
    """
    for module, build in builds()[part::parts]:
        name = f"{module.__name__.rpartition('.')[2]}.{build.kernel.py_func.__name__}"
        if not chosen(name):
            continue
        for dtype, capability in itertools.product(build.dtypes, CAPABILITIES):
            if capability < build.since:
                continue
            row = {"kernel": name, "codes": build.codes, "dtype": dtype, "capability": "{}.{}".format(*capability)}
            row["registers_allowed"] = build.registers
            try:
                wanted = build.instructions
                signature = argument_types(build.codes, dtype)
                row |= measure(build.kernel, signature, capability, bool(wanted) or disassemble)
                row["absent"] = [each for each in wanted if not occurs(each, row["opcodes"])]
            except Exception as error:
                row["error"] = f"{type(error).__name__}: {error}"
            yield row


def translate_once():
    """From now on Numba translates a kernel for its first capability only; the others get their code from that.

    The translation is the same for all of them (test_compiler.py), and most of the work. Numba without the function
    that is wrapped here takes longer, and that is all.
    """
    translate = getattr(numba_compiler, "_compile_pyfunc_with_fixup", None)
    if translate is None:
        return
    translated = {}

    def once(function, signature, **options):
        key = function, tuple(signature)
        if key not in translated:
            translated[key] = translate(function, signature, **options)
        return translated[key]

    numba_compiler._compile_pyfunc_with_fixup = once


def measure(kernel, signature, capability, disassemble):
    """What the machine code of a kernel is like."""
    ptx = compiler.ptx(kernel, signature, capability)
    name = compiler.entry_name(ptx)
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder, "kernel.cubin")
        cubin.write_bytes(compiler.link(ptx, capability))
        found = _USAGE.findall(_output("cuobjdump", "-res-usage", cubin))
        usage = {function: [int(figure) for figure in figures] for function, *figures in found}
        opcodes = Counter(_OPCODE.findall(_output("nvdisasm", cubin) if disassemble else ""))
    return {
        "registers": usage[name][0],
        "stack": max(stack + local for _, stack, _, local in usage.values()),
        "shared": usage[name][2],
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
    translate_once()
    for row in rows(*map(int, sys.argv[1:])):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
