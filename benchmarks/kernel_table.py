"""What the machine code of every CUDA kernel is like, read without a GPU: benchmarks/results/cuda-kernels.json.

    python benchmarks/kernel_table.py [--json FILE] [--only GLOB]

A row for each kernel, list of argument types, dtype and compute capability: registers a thread, bytes of stack, static
shared memory of a block in bytes (on 9.0 with the 1024 that CUDA reserves), how many instructions it is, and how many
of those that decide its speed, counted where they stand in the code, not as often as they run; LDS counts LDS.128,
too, and so on. Needs what tests/compile needs.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Vector loads and stores of global and shared memory, the arithmetic, what copies and feeds the tensor cores, barriers.
COUNTED = (
    *("LDG.128", "STG.128", "LDS.128", "LDS", "STS", "LDG", "STG"),
    *("FFMA", "DFMA", "MUFU", "HMMA", "LDSM", "LDGSTS", "SHFL", "BAR", "LDL", "STL"),
)


def table_row(row, occurs):
    """The part of a row of tests/compile/compiler.py that is kept."""
    if "error" in row:
        raise RuntimeError(f"{row['kernel']} {row['codes']} {row['dtype']}: {row['error']}")
    opcodes = row["opcodes"]
    counts = {name: sum(count for opcode, count in opcodes.items() if occurs(name, [opcode])) for name in COUNTED}
    return {
        **{name: row[name] for name in ("kernel", "codes", "dtype", "capability")},
        **{name: row[name] for name in ("registers", "registers_allowed", "stack", "shared")},
        "instructions": sum(count for opcode, count in opcodes.items() if opcode != "NOP"),
        "counts": {name: count for name, count in counts.items() if count},
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "cuda-kernels.json")
    parser.add_argument("--only", default="*", metavar="GLOB", help="of names such as scc_tiles.contract_v1")
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(ROOT))
    from tests.compile.test_kernels import missing

    if problem := missing():
        print(f"kernel_table: {problem}", file=sys.stderr)
        return 1
    from sccengine.kernels.cuda import compiler
    from tests.compile.compiler import occurs, rows, translate_once

    translate_once()
    table = []
    for row in rows(disassemble=True, chosen=lambda name: fnmatch.fnmatch(name, options.only)):
        kept = table_row(row, occurs)
        table.append(kept)
        print("{kernel} {dtype} {capability}: {registers} registers, {instructions} instructions".format(**kept))
    result = {"versions": dict(compiler.toolchain()), "kernels": table}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
