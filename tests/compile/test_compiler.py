"""From kernel to machine code: what the key of a cached kernel depends on, who links, what the suite's figures see."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from tests.compile.needs import need_compiler
from tests.compile.test_kernels import ROOT

ARRAY, NUMBER, COUNT = (True, np.dtype(np.float32)), (False, np.dtype(np.float32)), (False, np.dtype(np.int32))
SIGNATURE = (ARRAY, ARRAY, NUMBER, COUNT)


@pytest.fixture(autouse=True)
def _toolchain():
    need_compiler()


@pytest.fixture
def compiler():
    from sccengine.kernels.cuda import compiler

    return compiler


def make_kernel(offset=1, bound=None, device_offset=0):
    """y = x / factor + offset + device_offset; the last from a device function."""
    from numba import cuda

    @cuda.jit(device=True)
    def shifted(value):
        return value + device_offset

    @cuda.jit(**({"launch_bounds": bound} if bound else {}))
    def kernel(x, y, factor, count):
        i = cuda.grid(1)
        if i < count:
            y[i] = shifted(x[i] / factor) + x.dtype.type(offset)

    return kernel


def test_a_cubin_for_the_architecture_with_the_named_entry(compiler):
    for capability, number in (((7, 5), 75), ((9, 0), 90)):
        name, cubin = compiler.compile_kernel(make_kernel(), SIGNATURE, capability)
        assert cubin[:4] == b"\x7fELF"
        # Bits 8 to 15 of the ELF flags, at byte 48, since CUDA 13; bits 0 to 7 before.
        assert number in (cubin[48], cubin[49])
        assert name.encode() in cubin


def test_pointers_and_numbers_are_the_only_parameters(compiler):
    text = compiler.ptx(make_kernel(), SIGNATURE, (9, 0))
    header = text[text.index(".entry") : text.index(")", text.index(".entry"))]
    assert re.findall(r"\.param \.(\w+)", header) == ["u64", "u64", "f32", "u32"]


def test_products_and_sums_contract_and_division_is_exact(compiler):
    from numba import cuda

    @cuda.jit
    def kernel(x, y, factor, count):
        y[count] = x[0] * x[1] + x[2] / factor

    text = compiler.ptx(kernel, SIGNATURE, (8, 0))
    assert "fma.rn.f32" in text
    assert "div.rn.f32" in text
    assert ".ftz" not in text and ".approx" not in text


ONE_PROCESS = """
import hashlib, re, sys
from sccengine.kernels.cuda import compiler, rows
from tests.signatures import argument_types

build = rows.COMPILE[0]
if sys.argv[1] == "translate once":
    from tests.compile.compiler import translate_once

    translate_once()
for capability in sys.argv[2:]:
    capability = tuple(map(int, capability.split(".")))
    text = compiler.ptx(build.kernel, argument_types(build.codes, "float32"), capability)
    # Numba numbers what it compiles, and names a device function after the capability it was first compiled for.
    names = {}
    text = re.sub(r"_ZN\\w+|_cudapy_smem_\\d+", lambda found: names.setdefault(found[0], f"name{len(names)}"), text)
    print(hashlib.sha256(text.encode()).hexdigest())
"""


def test_a_process_compiles_for_several_capabilities():
    def hashes(*capabilities, translate="always"):
        command = [sys.executable, "-c", ONE_PROCESS, translate, *capabilities]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()

    both = hashes("7.5", "9.0")
    assert both[0] != both[1]
    assert both[1:] == hashes("9.0")
    # What the rest of the compile suite does to be quicker.
    assert both == hashes("7.5", "9.0", translate="translate once")


def test_ptxas_where_nvjitlink_is_missing(compiler, monkeypatch):
    from tests.compile.compiler import find_tool

    monkeypatch.setattr(compiler, "linker", lambda: ("ptxas", str(find_tool("ptxas"))))
    name, cubin = compiler.compile_kernel(make_kernel(), SIGNATURE, (9, 0))
    assert name.encode() in cubin
    with pytest.raises(RuntimeError, match="ptxas"):
        compiler.link("no PTX", (9, 0))


def test_without_a_linker_the_error_says_what_to_install(compiler, monkeypatch):
    def absent():
        raise RuntimeError("no libnvJitLink.so")

    monkeypatch.setattr("cuda.bindings.nvjitlink.version", absent)
    monkeypatch.setattr("shutil.which", lambda name: None)
    compiler.linker.cache_clear()
    try:
        with pytest.raises(RuntimeError, match=r"nvJitLink .* and ptxas: pip install"):
            compiler.link("", (9, 0))
    finally:
        compiler.linker.cache_clear()


def test_the_key_depends_on_everything_the_code_depends_on(compiler, monkeypatch):
    def key(signature=SIGNATURE, capability=(9, 0), **kernel):
        return compiler.cache_key(make_kernel(**kernel), signature, capability)

    first = key()
    assert key() == first, "the same function made twice"
    double = (True, np.dtype(np.float64))
    others = [
        key(signature=(double, *SIGNATURE[1:])),
        key(signature=(NUMBER, *SIGNATURE[1:])),
        key(capability=(8, 0)),
        key(offset=2),
        key(bound=128),
        key(device_offset=1),
    ]
    monkeypatch.setattr(compiler, "_sources", lambda: "another source")
    others.append(key())
    monkeypatch.setattr(compiler, "_sources", lambda: "a third source")
    others.append(key())
    monkeypatch.setattr(compiler, "toolchain", lambda: [("numba", "0.0")])
    others.append(key())
    assert len({first, *others}) == 1 + len(others)


def test_the_key_is_the_same_in_every_process():
    script = (
        "from sccengine.kernels.cuda import compiler, scc_tiles\n"
        "from tests.signatures import argument_types\n"
        "for build in scc_tiles.COMPILE:\n"
        "    print(compiler.cache_key(build.kernel, argument_types(build.codes, 'float32'), (9, 0)))\n"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert printed[0] == printed[1] and len(set(printed[0].split())) == 3


def test_a_kernel_is_compiled_once_and_again_if_its_file_is_damaged(compiler, monkeypatch, tmp_path):
    from sccengine.kernels.cuda import cubin_cache

    compiled = []
    monkeypatch.setattr(cubin_cache, "folder", lambda: tmp_path)
    monkeypatch.setattr(
        compiler, "compile_kernel", lambda *arguments: compiled.append(arguments) or ("name", bytes(range(200)))
    )
    kernel = make_kernel()

    def machine_code():
        return compiler.machine_code(kernel, SIGNATURE, (9, 0))

    assert machine_code() == machine_code() == ("name", bytes(range(200)))
    assert len(compiled) == 1
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    flipped = bytes([whole[0] ^ 1]), whole[:60] + bytes([whole[60] ^ 1]) + whole[61:]
    for damaged in (b"", whole[:10], whole[:-1], whole + b"\0", flipped[0] + whole[1:], flipped[1]):
        path.write_bytes(damaged)
        count = len(compiled)
        assert machine_code() == ("name", bytes(range(200)))
        assert len(compiled) == count + 1
        assert path.read_bytes() == whole


def test_two_processes_that_compile_the_same_kernel(tmp_path):
    script = (
        "import hashlib\n"
        "from sccengine.kernels.cuda import add, compiler, cubin_cache\n"
        "from tests.signatures import argument_types\n"
        "build = add.COMPILE[0]\n"
        "for _ in range(20):\n"
        "    name, cubin = compiler.machine_code(build.kernel, argument_types(build.codes, 'float32'), (9, 0))\n"
        "    assert name.encode() in cubin\n"
        "    cubin_cache.store('shared', cubin * 50)\n"
        "    assert cubin_cache.load('shared')[:4] == b'\\x7fELF'\n"
    )
    environment = {**os.environ, "SCCENGINE_CACHE_DIR": str(tmp_path)}
    running = [
        subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=environment, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    assert len(list((tmp_path / "cuda").iterdir())) == 2


def test_figures_of_the_kernel_and_not_of_its_subroutines(compiler):
    from numba import cuda

    from tests.compile.compiler import measure

    # The division of float32 is a subroutine, which the tools list first and without registers.
    row = measure(make_kernel(), SIGNATURE, (9, 0), disassemble=True)
    assert row["registers"] > 0 and not row["stack"]
    assert row["opcodes"]["STG.E"] == 1

    @cuda.jit
    def kernel(x, y, factor, count):
        local = cuda.local.array(64, x.dtype)
        for i in range(64):
            local[i] = x[i] * factor
        for i in range(count):
            local[i * 7 & 63] += local[i & 63]
        y[0] = local[count & 63]

    assert measure(kernel, SIGNATURE, (9, 0), disassemble=False)["stack"] >= 256


def test_instructions_are_found_with_modifiers_between():
    from tests.compile.compiler import occurs

    opcodes = ["LDG.E.LTC128B.128.CONSTANT", "LDS", "HMMA.1688.F32.TF32"]
    assert occurs("LDG.E.128", opcodes) and occurs("HMMA", opcodes) and occurs("HMMA.TF32", opcodes)
    assert not occurs("LDS.128", opcodes) and not occurs("LDG.E.64", opcodes) and not occurs("LD", opcodes)


WITHOUT_ROW_STACK = """
import numpy
if hasattr(numpy, "row_stack"):
    del numpy.row_stack
from sccengine.kernels.cuda import add, compiler
from tests.signatures import argument_types
build = add.COMPILE[0]
print(len(compiler.compile_kernel(build.kernel, argument_types(build.codes, "float32"), (9, 0))[1]))
"""


def test_numpy_without_a_name_that_numba_cuda_asks_for():
    done = subprocess.run([sys.executable, "-c", WITHOUT_ROW_STACK], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
