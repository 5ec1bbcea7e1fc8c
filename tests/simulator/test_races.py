"""That the simulator finds races, barriers that not all threads come to, and reads of what was never written."""

import numpy as np
import pytest

from sccengine.kernels.cuda import launch
from tests.racing_kernels import (
    BEFORE_IT_IS_READ,
    BEFORE_IT_IS_WRITTEN,
    SIZE,
    WARP,
    backwards,
    copied,
    counted,
    divergent,
    in_place,
    read_by_all,
    read_only,
    rotated,
    the_same_memory_twice,
    through_a_warp,
    written_by_lower_threads,
)


def test_barriers_order_accesses():
    x = np.arange(8, dtype=np.float32)
    launch.blocks(rotated, 1, 8, x, 3, BEFORE_IT_IS_READ | BEFORE_IT_IS_WRITTEN)
    np.testing.assert_array_equal(x, np.roll(np.arange(8), 3))


# Threads take their turns from the first on, so without the first barrier all but thread 0 read the right values.
@pytest.mark.parametrize("barriers, rounds", [(BEFORE_IT_IS_WRITTEN, 2), (BEFORE_IT_IS_READ, 2), (0, 1)])
def test_a_forgotten_barrier_is_found(barriers, rounds):
    with pytest.raises(RuntimeError, match="Race in thread .* of shared memory"):
        launch.blocks(rotated, 1, 8, np.zeros(8, np.float32), rounds, barriers)


def test_a_race_is_found_whose_result_is_right_in_the_simulator():
    with pytest.raises(RuntimeError, match="is written by thread 0 of block 0 and read by thread 1 of block 0"):
        launch.blocks(written_by_lower_threads, 1, 8, np.zeros(8, np.float32), np.zeros(8, np.float32))


@pytest.mark.parametrize("step, reader", [(1, "thread 1 of block 0"), (4, "thread 4 of block 1")])
def test_a_race_for_global_memory_is_found(step, reader):
    launch.blocks(in_place, 2, 4, np.ones(8, np.float32), 0)
    with pytest.raises(RuntimeError, match=f"global memory is written by thread 0 of block 0 and read by {reader}"):
        launch.blocks(in_place, 2, 4, np.ones(8, np.float32), step)


def test_a_barrier_orders_no_other_block():
    launch.blocks(read_by_all, 1, 8, np.ones(1, np.float32), np.zeros(8, np.float32))
    with pytest.raises(RuntimeError, match="is read by several threads and written by thread 7 of block 1"):
        launch.blocks(read_by_all, 2, 4, np.ones(1, np.float32), np.zeros(8, np.float32))


def test_arrays_that_share_memory_are_known_to():
    x = np.zeros(9, np.float32)
    launch.blocks(the_same_memory_twice, 1, 8, x, x, 0)
    with pytest.raises(RuntimeError, match="is written by thread 0 of block 0 and read by thread 1"):
        launch.blocks(the_same_memory_twice, 1, 8, x, x, 1)


def test_shared_memory_of_another_block_is_not_there():
    launch.blocks(read_only, 1, 4, np.zeros(4, np.float32))
    with pytest.raises(RuntimeError, match="thread 4 reads an element of shared memory that its block has not written"):
        launch.blocks(read_only, 2, 4, np.zeros(8, np.float32))


def test_a_warp_wide_operation_orders_no_memory():
    with pytest.raises(RuntimeError, match="shared memory is written .* and read"):
        launch.blocks(through_a_warp, 1, WARP, np.zeros(WARP, np.float32))


def test_a_copy_is_there_for_other_threads_after_wait_and_barrier():
    x, y = np.arange(SIZE, dtype=np.float32), np.zeros(SIZE, np.float32)
    launch.blocks(copied, 1, WARP, x, y, 0)
    np.testing.assert_array_equal(x, y)
    with pytest.raises(RuntimeError, match="shared memory is written .* and read|is read .* and written"):
        launch.blocks(copied, 1, WARP, x, y, 1)


def test_atomic_additions_may_meet():
    x = np.zeros(1, np.float32)
    launch.blocks(counted, 3, 4, x, True)
    assert x == 12
    with pytest.raises(RuntimeError, match="global memory is written .* and written"):
        launch.blocks(counted, 1, 4, x, False)


def test_a_negative_index_does_not_count_from_the_end():
    with pytest.raises(RuntimeError, match="negative index -1"):
        launch.blocks(backwards, 1, 4, np.zeros(4, np.float32))


@pytest.mark.parametrize("thread", [0, 3, 7])
@pytest.mark.parametrize("ends", [False, True])
def test_threads_at_different_barriers_are_found(thread, ends):
    with pytest.raises(RuntimeError, match="not all threads of the block come to the same barrier"):
        launch.blocks(divergent, 1, 8, np.full(9, ends, np.float32), thread)
    launch.blocks(divergent, 1, 8, np.full(9, ends, np.float32), 8)
