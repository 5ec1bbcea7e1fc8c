"""That the machine that runs PTX computes what the intrinsics are to compute, and finds what a GPU would leave open."""

import numpy as np
import pytest

from sccengine.kernels.cuda import launch
from tests import intrinsics_probe, racing_kernels
from tests.ptx.memory import Fault
from tests.racing_kernels import BEFORE_IT_IS_READ, BEFORE_IT_IS_WRITTEN, SIZE, WARP


def zeros(size):
    return np.zeros(size, np.float32)


@pytest.mark.parametrize("check", intrinsics_probe.CHECKS, ids=lambda check: check.__name__)
def test_intrinsic_matches_numpy(check):
    check(np.copy, np.asarray)


def test_barriers_order_accesses():
    x = np.arange(8, dtype=np.float32)
    launch.blocks(racing_kernels.rotated, 1, 8, x, 3, BEFORE_IT_IS_READ | BEFORE_IT_IS_WRITTEN)
    np.testing.assert_array_equal(x, np.roll(np.arange(8), 3))


@pytest.mark.parametrize("barriers, rounds", [(BEFORE_IT_IS_WRITTEN, 2), (BEFORE_IT_IS_READ, 2), (0, 1)])
def test_a_forgotten_barrier_is_found(barriers, rounds):
    with pytest.raises(Fault, match="a word of shared memory is (read|written) while another thread accesses it"):
        launch.blocks(racing_kernels.rotated, 1, 8, zeros(8), rounds, barriers)


@pytest.mark.parametrize("step", [1, 4])
def test_a_race_for_global_memory_is_found(step):
    launch.blocks(racing_kernels.in_place, 2, 4, zeros(8), 0)
    with pytest.raises(Fault, match="a word of global memory is written while another thread accesses it"):
        launch.blocks(racing_kernels.in_place, 2, 4, zeros(8), step)


def test_a_barrier_orders_no_other_block():
    launch.blocks(racing_kernels.read_by_all, 1, 8, zeros(1), zeros(8))
    with pytest.raises(Fault, match="global memory"):
        launch.blocks(racing_kernels.read_by_all, 2, 4, zeros(1), zeros(8))


def test_arrays_that_share_memory_are_known_to():
    x = zeros(9)
    launch.blocks(racing_kernels.the_same_memory_twice, 1, 8, x, x, 0)
    with pytest.raises(Fault, match="global memory"):
        launch.blocks(racing_kernels.the_same_memory_twice, 1, 8, x, x, 1)


def test_shared_memory_of_another_block_is_not_there():
    launch.blocks(racing_kernels.read_only, 1, 4, zeros(4))
    with pytest.raises(Fault, match="a word of shared memory is read that the block has not written"):
        launch.blocks(racing_kernels.read_only, 2, 4, zeros(8))


def test_a_warp_wide_operation_orders_no_memory():
    with pytest.raises(Fault, match="shared memory"):
        launch.blocks(racing_kernels.through_a_warp, 1, WARP, zeros(WARP))


def test_a_warp_wide_operation_needs_a_whole_warp():
    with pytest.raises(Fault, match="without all 32 lanes"):
        launch.blocks(racing_kernels.through_a_warp, 1, WARP - 1, zeros(WARP))


def test_a_copy_is_there_for_other_threads_after_wait_and_barrier():
    x, y = np.arange(SIZE, dtype=np.float32), zeros(SIZE)
    launch.blocks(racing_kernels.copied, 1, WARP, x, y, 0)
    np.testing.assert_array_equal(x, y)
    with pytest.raises(Fault, match="shared memory"):
        launch.blocks(racing_kernels.copied, 1, WARP, x, y, 1)


def test_atomic_additions_may_meet():
    x = zeros(1)
    launch.blocks(racing_kernels.counted, 3, 4, x, True)
    assert x == 12
    with pytest.raises(Fault, match="global memory"):
        launch.blocks(racing_kernels.counted, 1, 4, x, False)


def test_an_access_outside_of_all_arrays_is_found():
    with pytest.raises(Fault, match="an access of 4 bytes lies outside global memory"):
        launch.blocks(racing_kernels.backwards, 1, 4, zeros(4))


def test_an_access_that_is_not_aligned_is_found():
    x, y = zeros(SIZE + 1), zeros(SIZE)
    with pytest.raises(Fault, match="not aligned"):
        launch.blocks(racing_kernels.copied, 1, WARP, x[1:], y, 0)


def test_threads_that_go_different_ways_meet_again():
    x = zeros(9)
    launch.blocks(racing_kernels.divergent, 1, 8, x, 8)
    np.testing.assert_array_equal(x, [0, *range(8)])
