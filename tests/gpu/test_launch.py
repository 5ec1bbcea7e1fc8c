"""How kernels meet CuPy: streams, capture, shared memory, machine code from the disk, determinism."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import cuda

import sccengine.functional as F
from sccengine import backend, models
from sccengine.autograd import Tensor
from sccengine.kernels.cuda import launch, scc
from sccengine.optim import AdamW, clip_grad_norm
from sccengine.windows import ChannelWindows

ROOT = Path(__file__).parents[2]
SHARED = 96 * 1024

# Long enough (some milliseconds of additions) for a kernel on another stream to overtake CuPy's work.
ELEMENTS, ROUNDS = 1 << 24, 20


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


@cuda.jit
def mixed_kernel(x, factor, indices, y, count, offset, absent, key):
    i = cuda.grid(1)
    if i < count:
        y[i] = x[indices[i]] * factor + offset + (key >> 63)


@cuda.jit
def turned_kernel(x, y, words):
    # Thread t writes every 256th word of the shared memory and reads those of its counterpart, 255 - t.
    shared = cuda.shared.array(0, x.dtype)
    thread = cuda.threadIdx.x
    for i in range(thread, words, 256):
        shared[i] = x[i]
    cuda.syncthreads()
    for i in range(thread, words, 256):
        y[i] = shared[words - 1 - i]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_kind_of_argument_arrives(cupy, dtype):
    x = np.arange(1000, dtype=dtype)
    indices = np.random.default_rng(0).permutation(1000).astype(np.int32)
    y = cupy.zeros(1000, dtype)
    key = np.uint64(2**63 + 1)
    launch.elements(mixed_kernel, 1000, cupy.asarray(x), 0.1, cupy.asarray(indices), y, 1000, -3, None, key)
    np.testing.assert_allclose(y.get(), x[indices] * dtype(0.1) - 3 + 1, rtol=1e-6, atol=1e-5)


def test_dynamic_shared_memory_above_48_kb(cupy):
    if cupy.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"] < SHARED:
        pytest.skip("this GPU has less than 96 KB a block")
    words = SHARED // 4
    x, y = cupy.arange(words, dtype=np.float32), cupy.zeros(words, np.float32)
    launch.blocks(turned_kernel, 1, 256, x, y, words, shared=SHARED)
    np.testing.assert_array_equal(y.get(), np.arange(words)[::-1])
    with pytest.raises(RuntimeError, match="bytes of dynamic shared memory, but a block has"):
        launch.blocks(turned_kernel, 1, 256, x, y, words, shared=1 << 20)
    launch.blocks(turned_kernel, 1, 256, x, y, 1000, shared=4000)
    np.testing.assert_array_equal(y.get()[:1000], np.arange(1000)[::-1])


def test_a_captured_launch_runs_when_the_graph_does(cupy):
    from sccengine.kernels.cuda import add

    a, y = cupy.ones(1000, np.float32), cupy.zeros(1000, np.float32)
    add.forward(a, a, y)
    y.fill(0)
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with stream:
        stream.begin_capture()
        add.forward(a, a, y)
        add.forward(y, a, y)
        graph = stream.end_capture()
    cupy.cuda.Device().synchronize()
    assert not y.get().any()
    graph.launch(stream)
    stream.synchronize()
    assert (y.get() == 3).all()


def test_a_first_launch_during_capture_is_an_error_that_names_the_kernel(cupy):
    @cuda.jit
    def unseen_kernel(x):
        x[0] = 1

    x = cupy.zeros(4, np.float32)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        with pytest.raises(RuntimeError, match="unseen_kernel: the first launch"):
            launch.blocks(unseen_kernel, 1, 1, x)
        stream.end_capture()
        launch.blocks(unseen_kernel, 1, 1, x)
        stream.synchronize()
    assert x.get().tolist() == [1, 0, 0, 0]


COUNTING = """
import cupy
from sccengine.kernels.cuda import add, compiler
compiled, compile_kernel = [], compiler.compile_kernel
compiler.compile_kernel = lambda *arguments: compiled.append(arguments) or compile_kernel(*arguments)
a = cupy.ones(1001, cupy.float32)
y = cupy.zeros_like(a)
add.forward(a, a, y)
assert (y.get() == 2).all()
print(len(compiled))
"""


def test_a_second_process_finds_the_machine_code_on_disk(tmp_path):
    environment = {**os.environ, "SCCENGINE_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COUNTING]

    def compiled():
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert [compiled(), compiled()] == [1, 0]
    (path,) = (tmp_path / "cuda").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert [compiled(), compiled()] == [1, 0]


def test_launches_from_many_threads(cupy):
    import threading

    from sccengine.kernels.cuda import add

    wrong = []

    def work(number):
        a = cupy.full(5000, number, np.float32)
        y = cupy.zeros_like(a)
        for _ in range(200):
            add.forward(a, a, y)
        if not bool((y == 2 * number).all()):
            wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_launch_is_ordered_with_cupys_work_on_a_stream_of_its_own(cupy):
    from sccengine.kernels.cuda import add

    stream = cupy.cuda.Stream(non_blocking=True)
    a = cupy.zeros(ELEMENTS, np.float32)
    y = cupy.zeros(ELEMENTS, np.float32)
    add.forward(a, a, y)
    cupy.cuda.Device().synchronize()
    with stream:
        for _ in range(ROUNDS):
            a += 1
        add.forward(a, a, y)
        y += 1
    stream.synchronize()
    assert bool((y == 2 * ROUNDS + 1).all())


def test_results_of_deterministic_variants_have_the_same_bits_every_time(cupy):
    windows = ChannelWindows.sliding(24, 40, 2, 0.5)
    random = np.random.default_rng(0)
    x, dy = (cupy.asarray(random.standard_normal((rows, 20_000)).astype(np.float32)) for rows in (24, 40))
    weight = cupy.asarray(random.standard_normal((40, 12)).astype(np.float32))
    for name, variant in scc.VARIANTS.items():
        if not variant.deterministic or scc.problem(name, x):
            continue
        seen = set()
        for _ in range(3):
            y, dx, dweight = cupy.empty_like(dy), cupy.empty_like(x), cupy.empty_like(weight)
            scc.forward(x, weight, None, y, windows, name)
            scc.backward_input(dy, weight, dx, windows, name)
            scc.backward_weight(dy, x, dweight, windows, name)
            seen.add(tuple(array.get().tobytes() for array in (y, dx, dweight)))
        assert len(seen) == 1, name


def test_an_array_that_is_not_contiguous_is_refused(cupy):
    from sccengine.kernels.cuda import rows

    with pytest.raises(ValueError, match="not C-contiguous"):
        rows.sum_rows(cupy.zeros((4, 6), np.float32).T, cupy.zeros(6, np.float32))


def test_training_on_a_gpu_that_is_not_the_current_one(cupy):
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("this machine has one GPU")
    losses = []
    for device in ("cuda:0", "cuda:1"):
        backend.set_seed(0)
        model = models.build("dscnet", in_channels=1).to(device)
        optimizer = AdamW(model.parameters())
        images = Tensor(np.random.default_rng(0).standard_normal((8, 1, 8, 8), dtype=np.float32), device=device)
        labels = Tensor(np.arange(8), device=device)
        for _ in range(3):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()
            assert loss.device == device
        losses.append(loss.numpy())
    np.testing.assert_array_equal(*losses)
    assert cupy.cuda.runtime.getDevice() == 0


def test_tables_are_uploaded_once(cupy):
    like = cupy.zeros(1, np.float32)
    first = launch.table(np.arange(5), like)
    assert launch.table(np.arange(5), like) is first
    assert launch.table(np.arange(6), like) is not first
    assert first.dtype == np.int32 and first.get().tolist() == [0, 1, 2, 3, 4]
