"""The twins of the intrinsics against NumPy, and that they are stricter than a GPU."""

import os

import numpy as np
import pytest
from numba import cuda
from numba.cuda.simulator import kernel as simulator

from sccengine.kernels.cuda import intrinsics, launch, simulator_twins
from sccengine.kernels.cuda.intrinsics import (
    ALIGNMENT,
    commit_copies,
    copy_async16,
    load,
    load4,
    shuffle_xor,
    store,
    store4,
    wait_copies_1,
    warp_sum,
)
from tests import intrinsics_probe as probe
from tests.intrinsics_probe import SIZE, WARP, float32, int32

pytestmark = pytest.mark.skipif(os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="needs the simulator")


@pytest.mark.parametrize("check", probe.CHECKS, ids=lambda check: check.__name__)
def test_twin_matches_numpy(check):
    check(np.copy, np.asarray)


@pytest.mark.parametrize("check", (probe.check_copied, probe.check_exchanged, probe.check_product_tf32))
def test_twins_work_in_numbas_own_scheduler(check, monkeypatch):
    from tests.simulator import block_manager

    monkeypatch.setattr(simulator.BlockManager, "run", block_manager.numbas_run)
    check(np.copy, np.asarray)


def test_every_intrinsic_has_a_twin():
    with open(intrinsics.__file__) as file:
        text = file.read()
    for name in simulator_twins.__all__:
        assert f"\n{name} = intrinsic(" in text or f"\ndef {name}(" in text, name
        assert getattr(intrinsics, name) is getattr(simulator_twins, name)


@cuda.jit
def too_early(x, y):
    ring = cuda.shared.array(SIZE, float32, ALIGNMENT)
    thread = int32(cuda.threadIdx.x)
    copy_async16(ring, 4 * thread, x, 4 * thread, int32(16))
    commit_copies()
    wait_copies_1()
    cuda.syncthreads()
    store(y, thread, load(ring, thread))


def test_a_copy_that_was_not_waited_for_is_not_there():
    y = np.zeros(WARP, np.float32)
    launch.blocks(too_early, 1, WARP, np.ones(SIZE, np.float32), y)
    assert np.isnan(y).all()


@cuda.jit
def misplaced(x, vector, first):
    thread = int32(cuda.threadIdx.x)
    if vector:
        a, b, c, d = load4(x, 4 * thread + first)
        store4(x, 4 * thread + first, a, b, c, d)
    else:
        store(x, thread + first, load(x, thread + first))


@pytest.mark.parametrize(
    "vector, first, message",
    [(True, 2, "element 2 is not aligned to 4"), (True, 4, "array of 16"), (False, -1, "elements -1 to -1")],
)
def test_misplaced_accesses_are_found(vector, first, message):
    with pytest.raises(RuntimeError, match=message):
        launch.blocks(misplaced, 1, 4, np.zeros(16, np.float32), vector, first)


@cuda.jit
def divergent(x, absent):
    thread = int32(cuda.threadIdx.x)
    if thread != absent:
        x[thread] = warp_sum(x[thread])
    cuda.syncthreads()
    x[thread] = shuffle_xor(x[thread], 16)


@pytest.mark.parametrize("threads, absent", [(32, 0), (32, 7), (64, 63), (16, -1)])
def test_a_warp_that_is_not_complete_is_found(threads, absent):
    with pytest.raises(RuntimeError, match="32 lanes"):
        launch.blocks(divergent, 1, threads, np.ones(64, np.float32), absent)


def test_warps_may_do_different_things_between_barriers():
    x = np.ones(64, np.float32)
    launch.blocks(divergent, 1, 64, x, -1)
    np.testing.assert_array_equal(x, np.full(64, 32))


@cuda.jit
def dynamic(x):
    words = cuda.shared.array(0, float32)
    thread = int32(cuda.threadIdx.x)
    a, b, c, d = load4(x, 4 * thread)
    store4(words, SIZE - 4 - 4 * thread, d, c, b, a)
    cuda.syncthreads()
    a, b, c, d = load4(words, 4 * thread)
    store4(x, 4 * thread, a, b, c, d)


def test_dynamic_shared_memory():
    x = np.arange(SIZE, dtype=np.float32)
    dynamic[1, WARP, 0, 4 * SIZE](x)
    np.testing.assert_array_equal(x, np.arange(SIZE)[::-1])
