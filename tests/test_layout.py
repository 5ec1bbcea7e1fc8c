"""The house plan as a test: an operator is found by its name in every room, and imports go one way only.

A stem is the name of an operator; its rooms are the files that carry the name. LACKS says which rooms a stem does
without, and why; an entry that is no longer true fails too.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sccengine

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sccengine"

ROOMS = {
    "cpu": "sccengine/kernels/cpu/{}.py",
    "cuda": "sccengine/kernels/cuda/{}.py",
    "functional": "sccengine/functional/{}.py",
    "nn": "sccengine/nn/{}.py",
    "optim": "sccengine/optim/{}.py",
    "checks": "tests/checks/{}.py",
    "test": "tests/test_{}.py",
}

LAYER = {"optim": "a layer, not an optimizer"}
UPDATE = {"functional": "works in place outside the graph", "nn": "is no layer"}
SHARES_SCC = "is the contraction of kernels/*/scc.py with a dense window"
LACKS = {
    "adamw": UPDATE,
    "add": {**LAYER, "nn": "is used between layers, in a model's forward"},
    "augment": {**LAYER, "functional": "makes the batches of data.Loader", "nn": "comes before the network"},
    "avg_pool2d": LAYER,
    "batch_norm": LAYER,
    "channel_shuffle": LAYER,
    "clip_grad_norm": UPDATE,
    "conv2d": LAYER,
    "cross_entropy": LAYER,
    "depthwise": {**LAYER, "nn": "is nn.Conv2d with groups == in_channels"},
    "dropout": LAYER,
    "flatten": {**LAYER, "cpu": "moves nothing in batch-last memory", "cuda": "moves nothing in batch-last memory"},
    "global_avg_pool2d": LAYER,
    "linear": {**LAYER, "cpu": SHARES_SCC, "cuda": SHARES_SCC},
    "max_pool2d": LAYER,
    "relu": LAYER,
    "scale": {**LAYER, "nn": "is used between losses, and in a model's forward"},
    "scc": LAYER,
    "separable": {**LAYER, "nn": "is what nn.Sequential makes of several layers in evaluation"},
    "sgd": UPDATE,
}
WITH_KERNELS = [stem for stem, lacks in LACKS.items() if "cpu" not in lacks] + ["copy", "rows", "subsample", "tally"]

# A module may import from its own room and from rooms of lower rank. Kernels are reached through backend.kernels_for.
RANKS = {
    "cli": 10,
    "bench": 9,
    "exploration": 9,
    "interop": 9,
    "training": 8,
    "certify": 7,
    "models": 6,
    "data": 6,
    "nn": 5,
    "optim": 5,
    "functional": 4,
    "capture": 4,
    "capture_graphs": 3,
    "capture_guard": 2,
    "capture_launches": 2,
    "tuning": 3,
    "drawing": 3,
    "gradcheck": 3,
    "kernels": 2,
    "autograd": 2,
    "timings": 2,
    "tuning_keys": 2,
    "backend": 1,
    "windows": 1,
    "files": 0,
    "memory": 0,
    "machine": 0,
    "thread_switch": 0,
    "numeric": 0,
    "wording": 0,
    "precision": 0,
    "reference": 0,
    "__version__": 0,
}
NUMBA_ROOMS = ("kernels", "backend", "cli")


@pytest.mark.parametrize("stem", LACKS)
@pytest.mark.parametrize("room", ROOMS)
def test_every_stem_has_its_rooms(stem, room):
    path = ROOMS[room].format(stem)
    reason = LACKS[stem].get(room)
    if reason is None:
        assert (ROOT / path).exists(), f"{stem} lacks {path}"
    else:
        assert not (ROOT / path).exists(), f"{path} exists, though LACKS says that {stem} {reason}"


def test_no_operator_is_missing_from_the_table():
    shared = {"__init__", "checks"}
    operators = {path.stem for path in (PACKAGE / "functional").glob("*.py")} - shared
    assert operators <= set(LACKS), f"not in LACKS: {sorted(operators - set(LACKS))}"


def test_functional_exports_its_operators():
    import sccengine.functional as F

    names = {name for name in dir(F) if callable(getattr(F, name)) and not name.startswith("_")}
    assert names == set(F.__all__)
    assert F.__all__ == sorted(F.__all__)


def _launchers(backend, stem):
    """{public function: parameter names} of a kernel file; kernels themselves are decorated or private."""
    tree = ast.parse((PACKAGE / "kernels" / backend / f"{stem}.py").read_text())
    return {
        node.name: [argument.arg for argument in node.args.args]
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.decorator_list and not node.name.startswith("_")
    }


@pytest.mark.parametrize("stem", WITH_KERNELS)
def test_both_backends_have_the_same_launchers(stem):
    cpu, cuda = _launchers("cpu", stem), _launchers("cuda", stem)
    assert cpu and cpu == cuda


def test_both_backends_have_the_same_variants():
    from sccengine.kernels.cpu import scc as cpu
    from sccengine.kernels.cuda import scc as cuda

    # Those of the paper, and tiles; each backend may have more.
    assert set(cpu.VARIANTS) & set(cuda.VARIANTS) >= {
        "channel_stack",
        "cyclic_stack",
        "direct_output_centric",
        "direct_input_centric",
        "tiles",
    }
    assert cpu.DEFAULT in cpu.VARIANTS and cuda.DEFAULT in cuda.VARIANTS
    for package in (cpu, cuda):
        for name, variant in package.VARIANTS.items():
            assert variant.name == name
        assert package.VARIANTS[package.DEFAULT].deterministic


def _modules():
    return sorted(path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py"))


def _imports(path):
    """Absolute dotted names of what a file imports anywhere; ``from sccengine import nn`` counts as sccengine.nn."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.split("/")[: -node.level] if node.level else []
            module = ".".join([*package, *([node.module] if node.module else [])])
            yield from (f"sccengine.{alias.name}" for alias in node.names) if module == "sccengine" else [module]


def _room(path):
    return path.split("/")[1].removesuffix(".py")


@pytest.mark.parametrize("path", _modules())
def test_imports_go_one_way(path):
    room = _room(path)
    if room in ("__init__", "__main__"):
        return
    for name in _imports(path):
        parts = name.split(".")
        assert parts[0] not in ("tests", "benchmarks", "notebooks", "torch"), f"{path} imports {name}"
        if parts[0] == "numba":
            assert room in NUMBA_ROOMS, f"{path} imports numba, which belongs to the kernels"
        if parts[0] != "sccengine" or len(parts) == 1:
            continue
        imported = sccengine._ATTRIBUTES.get(parts[1], parts[1]).partition(".")[0]
        if imported == room:
            continue
        assert RANKS[imported] < RANKS[room], f"{path} imports {name}, which is not below {room}"
        assert imported != "kernels" or room in ("capture_graphs", "tuning", "cli"), f"{path} must use kernels_for()"


@pytest.mark.parametrize("path", [path for path in _modules() if "/kernels/" in path])
def test_kernels_import_only_their_own_package_and_windows(path):
    backend = path.split("/")[2].removesuffix(".py")
    allowed = [f"sccengine.kernels.{backend}", "sccengine.kernels.variant", "sccengine.kernels.cache_folder"]
    allowed.append("sccengine.windows")
    if path.endswith(("cuda/launch.py", "cuda/multi_tensor.py")):
        allowed.append("sccengine.backend")
    for name in _imports(path):
        if name.startswith("sccengine"):
            assert any(name == a or name.startswith(f"{a}.") for a in allowed), f"{path} imports {name}"


def test_the_oracles_import_numpy_only():
    foreign = {name.partition(".")[0] for name in _imports("sccengine/reference.py")} - set(sys.stdlib_module_names)
    assert foreign == {"numpy"}


HEAVY = ("numba", "matplotlib", "click", "rich", "cupy", "torch", "PIL", "safetensors", "onnx")


@pytest.mark.parametrize("statement", ["import sccengine", "from sccengine import functional, nn, optim"])
def test_importing_loads_nothing_heavy(statement):
    code = f"import sys; {statement}; print([m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_interop_loads_its_files_on_first_use_and_nothing_optional():
    code = (
        "import sys; from sccengine import interop; listed = set(dir(interop))\n"
        "print([getattr(interop, name).__name__ for name in interop.__all__ if name in listed])\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [f"sccengine.interop.{name}" for name in ("convert", "dlpack", "onnx", "safetensors")]
    assert result.stdout.splitlines() == [str(names), "[]"]


def test_importing_is_quick():
    code = "import numpy, time; start = time.perf_counter(); import sccengine; print(time.perf_counter() - start)"
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(seconds) < 0.3
