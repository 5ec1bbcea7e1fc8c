"""How CPU kernels are compiled and launched: cache folder, Python threads, forks, vectors, thread counts."""

import os
import platform
import re
import subprocess
import sys

import numpy as np
import pytest

from sccengine.kernels.cpu import batch_norm, compile, depthwise, dropout, relu, scc_columns
from sccengine.windows import ChannelWindows

ARITHMETIC = r"v?f?n?m?(?:add|sub|mul|max|min|cmp|xor)\w*"


def python(script, **environment):
    """Run a script in a fresh process; its standard output."""
    return run(script, **environment).stdout


def run(script, **environment):
    """The same; the finished process."""
    kept = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "SCCENGINE_CACHE_DIR")}
    done = subprocess.run(
        [sys.executable, "-c", script], env={**kept, **environment}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done


ADD = """
import numba, numpy as np
from sccengine.kernels.cpu import add, compile
for size in 3, compile.PARALLEL_WORK:
    x, y = np.ones(size, np.float32), np.empty(size, np.float32)
    add.forward(x, x, y)
    assert (y == 2).all()
print(compile.cache_folder())
for version in add._forward.dispatcher, add._forward.serial:
    print(sum(version.stats.cache_hits.values()))
"""


def test_machine_code_is_cached_under_a_hash_of_the_sources(tmp_path):
    folder, *hits = python(ADD, SCCENGINE_CACHE_DIR=str(tmp_path)).split()
    assert folder == str(tmp_path / compile.source_hash())
    assert list((tmp_path / compile.source_hash()).rglob("*.nbi"))
    assert hits == ["0", "0"]
    assert python(ADD, SCCENGINE_CACHE_DIR=str(tmp_path)).split()[1:] == ["1", "1"]


STEP = """
import numpy as np
from sccengine.kernels.cpu import sgd
x = np.ones(3, np.float32)
sgd.update([x], [x.copy()], None, np.zeros(3), False)
print(sum(sgd._plain.stats.cache_hits.values()))
"""


def test_what_is_damaged_in_the_cache_is_compiled_anew(tmp_path):
    def damage(files, change):
        for path in tmp_path.rglob(files):
            path.write_bytes(change(path.read_bytes()))

    cache = {"SCCENGINE_CACHE_DIR": str(tmp_path)}
    assert python(STEP, **cache) == "0\n"
    damage("*.nbi", lambda content: b"")
    assert python(STEP, **cache) == "0\n"
    damage("*.nbc", lambda content: content[:500])
    assert python(STEP, **cache) == "0\n"
    damage("*.nbc", lambda content: content.replace(b"BC", b"??"))
    assert python(STEP, **cache) == "0\n"
    assert python(STEP, **cache) == "1\n"


def test_the_users_own_cache_setting_wins_and_is_left_alone(tmp_path):
    script = ADD + f"assert numba.config.CACHE_DIR == {str(tmp_path / 'user')!r}"
    folder = python(script, NUMBA_CACHE_DIR=str(tmp_path / "user"), SCCENGINE_CACHE_DIR=str(tmp_path / "ours"))
    assert folder.split()[0] == str(tmp_path / "user" / compile.source_hash())
    assert not (tmp_path / "ours").exists()
    python(ADD + "assert numba.config.CACHE_DIR == ''", SCCENGINE_CACHE_DIR=str(tmp_path / "ours"))


@pytest.mark.parametrize("variable", ["SCCENGINE_CACHE_DIR", "NUMBA_CACHE_DIR"])
def test_kernels_run_without_a_writable_cache_and_one_warning_says_so(tmp_path, variable):
    (tmp_path / "file").write_text("a file is no folder")
    out = python("import sys\nsys.stderr = sys.stdout" + ADD, **{variable: str(tmp_path / "file")})
    assert "None" in out.splitlines() and out.count("cannot be written") == 1
    assert f"{tmp_path / 'file'} cannot be written" in out and f"set {variable} to a folder that can" in out


def test_an_edited_helper_changes_the_folder(tmp_path, monkeypatch):
    (tmp_path / "compile.py").write_text("")
    (tmp_path / "helper.py").write_text("a = 1")
    monkeypatch.setattr(compile, "__file__", str(tmp_path / "compile.py"))
    before = compile.source_hash()
    assert compile.source_hash() == before
    (tmp_path / "helper.py").write_text("a = 2")
    assert compile.source_hash() != before


THREADS = """
import threading, numpy as np
from sccengine.kernels.cpu import add
a = np.arange(300_000, dtype=np.float32)
wrong = []
def work():
    y = np.empty_like(a)
    for _ in range(100):
        y[:] = 0
        add.forward(a, a, y)
        if not np.array_equal(y, 2 * a):
            wrong.append(1)
threads = [threading.Thread(target=work) for _ in range(3)]
[t.start() for t in threads]
[t.join() for t in threads]
assert not wrong
"""


@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_python_threads_may_launch_at_once(layer):
    python(THREADS, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2")


@pytest.mark.skipif(sys.platform != "linux", reason="GNU OpenMP is looked for on Linux only")
@pytest.mark.parametrize("first", ["num_threads()", "set_num_threads(1)", "kernels_for(np.zeros(1)).add"])
@pytest.mark.parametrize("given, spin", [({}, compile.SPIN), ({"GOMP_SPINCOUNT": "77"}, "77")])
def test_whatever_starts_the_threads_they_spin_for_a_short_time_unless_told_otherwise(first, given, spin):
    script = f"""
import numpy as np
from sccengine import backend
backend.{first}
backend.num_threads()
"""
    settings = run(script, OMP_DISPLAY_ENV="verbose", **given).stderr
    if "GOMP_SPINCOUNT" not in settings:
        pytest.skip("there is no GNU OpenMP here")
    assert f"GOMP_SPINCOUNT = '{spin}'" in settings


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
def test_a_forked_child_goes_on_computing():
    script = """
import os, numpy as np
from sccengine.kernels.cpu import add
a = np.arange(300_000, dtype=np.float32)
y = np.empty_like(a)
add.forward(a, a, y)
child = os.fork()
if child == 0:
    y[:] = 0
    add.forward(a, a, y)
    os._exit(0 if np.array_equal(y, 2 * a) else 1)
assert os.waitpid(child, 0)[1] == 0
add.forward(a, a, y)
"""
    python(script, NUMBA_NUM_THREADS="2")


DIGEST = """
import hashlib, numpy as np
from sccengine.kernels.cpu import batch_norm, clip_grad_norm, conv2d, cross_entropy, depthwise, dropout, max_pool2d
from sccengine.kernels.cpu import rows, scc
from sccengine.windows import ChannelWindows
random = np.random.default_rng(0)
x = random.standard_normal((9, 12, 12, 64)).astype(np.float32)
flat = x.reshape(9, -1)
weight = random.standard_normal((9, 3, 3)).astype(np.float32)
row = [np.ones(9, np.float32) for _ in range(6)]
y, dx = np.empty_like(x), np.empty_like(x)
results = [y, dx, *row]
digest = hashlib.sha256()
def note():
    for array in results:
        digest.update(array.tobytes())
depthwise.forward(x, weight, None, y, (1, 1), (1, 1))
depthwise.backward_input(x, weight, dx, (1, 1), (1, 1))
note()
depthwise.backward_weight(x, y, weight, (1, 1), (1, 1))
digest.update(weight.tobytes())
depthwise.backward(x, y, weight, dx, weight.copy(), row[0], (1, 1), (1, 1))
note()
flat_y, flat_dx, mean = y.reshape(9, -1), dx.reshape(9, -1), np.empty((2, 9), np.float32)
batch_norm.forward_training(flat, *row[:2], flat, flat_y, mean, row[2], *row[3:5], None, 0.1, 1e-5, True)
digest.update(mean.tobytes())
batch_norm.backward_training(flat, flat, flat_y, *row[:2], mean, row[2], flat_dx, None, *row[4:], 1e-5, True)
note()
filters = random.standard_normal((20, 9, 3, 3)).astype(np.float32)
wide = np.empty((20, 12, 12, 64), np.float32)
conv2d.forward(x, filters, None, wide, (1, 1), (1, 1), 1)
conv2d.backward_input(wide, filters, dx, (1, 1), (1, 1), 1)
conv2d.backward_weight(wide, x, filters, (1, 1), (1, 1), 1)
digest.update(filters.tobytes())
note()
rows.sum_rows(flat, row[0])
dropout.apply(x.reshape(-1), y.reshape(-1), 0.3, np.array([2**63 + 5], np.uint64))
note()
for batch in 64, 15:
    images = x[..., :batch].copy()
    dx, dweight, halves = np.empty_like(images), np.empty((9, 3, 3), np.float32), images[:, ::2, ::2].copy()
    depthwise.backward(images, images, weight, dx, dweight, row[0], (1, 1), (1, 1))
    digest.update(dx.tobytes() + dweight.tobytes())
    winners = np.empty(halves.shape, np.int32)
    max_pool2d.forward(images, halves, winners, (2, 2), (2, 2), (0, 0))
    max_pool2d.backward(halves, winners, dx, (2, 2), (2, 2), (0, 0))
    digest.update(halves.tobytes() + dx.tobytes())
few, taps = (random.standard_normal(shape, dtype=np.float32) for shape in ((192, 6), (500, 192)))
results = [np.empty((500, 6), np.float32)]
scc.forward(few, taps, None, *results, ChannelWindows.dense(192, 500))
note()
norm = np.empty(1)
clip_grad_norm.norm([x], norm)
digest.update(norm.tobytes())
print(digest.hexdigest())
"""


def test_threads_and_the_cache_leave_the_bits_alone(tmp_path):
    cache = {"SCCENGINE_CACHE_DIR": str(tmp_path)}
    compiled = python(DIGEST, NUMBA_NUM_THREADS="2", **cache)
    assert python(DIGEST, NUMBA_NUM_THREADS="2", **cache) == compiled
    assert python(DIGEST, NUMBA_NUM_THREADS="1", **cache) == compiled


def launch_all():
    x = np.ones((2, 4, 4, 64), np.float32)
    weight = np.ones((2, 3, 3), np.float32)
    y = np.empty_like(x)
    row = [np.ones(2, np.float32) for _ in range(5)]
    flat, flat_y, mean = x.reshape(2, -1), y.reshape(2, -1), np.ones((2, 2), np.float32)
    depthwise.forward(x, weight, None, y, (1, 1), (1, 1))
    depthwise.backward(x, x, weight, y, weight.copy(), row[0], (1, 1), (1, 1))
    batch_norm.forward_training(flat, *row[:2], None, flat_y, mean, row[2], None, None, None, 0.1, 1e-5, True)
    batch_norm.backward_training(flat, flat, None, *row[:2], mean, row[2], flat_y, None, *row[3:], 1e-5, True)
    relu.forward(x.reshape(-1), y.reshape(-1), 6.0)
    dropout.apply(x.reshape(-1), y.reshape(-1), 0.5, np.ones(1, np.uint64))
    few, windows = np.ones((4, 2), np.float32), ChannelWindows.dense(4, 4)
    scc_columns.contract(few, np.ones((4, 4), np.float32), None, few, windows, np.float32(0), None)


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="counts x86 vector instructions")
@pytest.mark.parametrize(
    "kernel, suffix, least",
    [
        (depthwise._forward, "ps", 4),
        (depthwise._backward, "ps", 4),
        (batch_norm._forward_training, "ps", 8),
        (batch_norm._backward, "ps", 8),
        (relu._forward, "ps", 4),
        (dropout._apply, "(?:ps|q)", 4),
        (scc_columns._contract, "ps", 8),
    ],
    ids=lambda value: getattr(value, "__qualname__", None),
)
def test_hot_loops_hold_vector_instructions(kernel, suffix, least, monkeypatch):
    launch_all()
    monkeypatch.setattr(compile, "cache_folder", lambda: None)  # Numba keeps no assembly of cached code
    fresh = compile.parallel_jit(kernel.dispatcher.py_func)
    for version in fresh.dispatcher, fresh.serial:
        # Other tests may have been first, with float64.
        version.compile(next(types for types in kernel.serial.signatures if "float32" in str(types)))
        assembly = "\n".join(version.inspect_asm().values())
        found = re.findall(rf"^\s+v?p?{ARITHMETIC}{suffix}\s.*%[xyz]mm", assembly, flags=re.MULTILINE)
        assert len(found) >= least, f"{kernel.__module__}.{kernel.__name__}: {len(found)} vector instructions"
