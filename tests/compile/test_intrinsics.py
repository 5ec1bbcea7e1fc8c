"""The intrinsics become the instructions that they are written for, without stack; see test_kernels.py."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.compile.needs import need_compiler
from tests.compile.test_kernels import CAPABILITIES, ROOT


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_probes_hold_their_instructions(capability):
    need_compiler()
    # A process for each capability, as test_kernels.py has one for each part of the kernels.
    command = [sys.executable, "-m", "tests.compile.test_intrinsics", capability]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows
    for row in rows:
        assert not row["stack"], row["kernel"]
        assert not row["absent"], (row["kernel"], row["absent"], row["found"])


def main():
    """Prints for each probe the instructions found and those that are absent, as a row of JSON."""
    from numba import cuda, types
    from numba.cuda import dispatcher

    from tests.compile.compiler import find_tool, occurs
    from tests.intrinsics_probe import COMPILE

    capability = tuple(int(part) for part in sys.argv[1].split("."))
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    letters = {"F": types.CPointer(types.float32), "i": types.int32}
    with tempfile.TemporaryDirectory() as folder:
        ptx_file, cubin = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        for kernel, codes, since, wanted in COMPILE:
            if capability < since:
                continue
            signature = tuple(letters[code] for code in codes)
            ptx, _ = cuda.compile(kernel.py_func, signature, cc=capability, device=False, abi="numba")
            ptx_file.write_text(ptx)
            architecture = "-arch=sm_{}{}".format(*capability)
            log = subprocess.run(
                [find_tool("ptxas"), "-v", architecture, ptx_file, "-o", cubin],
                check=True,
                capture_output=True,
                text=True,
            ).stderr
            code = subprocess.run(
                [find_tool("nvdisasm"), "-c", cubin], check=True, capture_output=True, text=True
            ).stdout
            found = sorted(set(re.findall(r"\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.a-z]+)", code)))
            row = {
                "kernel": kernel.py_func.__name__,
                "found": found,
                "absent": [each for each in wanted if not occurs(each, found)],
                "stack": int(re.search(r"(\d+) bytes stack frame", log).group(1)),
            }
            print(json.dumps(row))


if __name__ == "__main__":
    main()
