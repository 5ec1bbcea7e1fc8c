"""Kept memory: reuse once the last view is gone, alignment, a bound on what is kept, threads."""

import gc
import threading

import numpy as np
import pytest

from sccengine import memory


@pytest.fixture(autouse=True)
def _start_empty():
    gc.collect()
    memory.release()


def _address(array):
    return array.__array_interface__["data"][0]


def test_a_block_is_reused_when_the_last_view_is_gone():
    array = memory.empty((100, 1000), np.float32)
    first = _address(array)
    view = array.T[3:]
    del array
    assert _address(memory.empty((100, 1000), np.float32)) != first, "a view still uses the block"
    del view
    assert _address(memory.empty((1000, 100), np.float32)) == first


@pytest.mark.parametrize(
    "shape, dtype", [((3, 5), np.float32), ((300, 501), np.float64), ((0, 4), np.int32), ((), np.float32)]
)
def test_arrays_are_ordinary(shape, dtype):
    array = memory.empty(shape, dtype)
    assert type(array) is np.ndarray and array.shape == shape and array.dtype == dtype
    assert array.flags.c_contiguous and array.flags.writeable
    array[...] = 1
    assert array.sum() == array.size


def test_large_arrays_are_aligned():
    for size in (20_000, 32_345, 100_001):
        assert _address(memory.empty((size,), np.float64)) % 64 == 0


def test_what_is_kept_is_bounded():
    pool = memory._shared
    for size in range(20_000, 500_000, 10_000):
        memory.empty((size,), np.float64)
    assert pool._used == 0
    assert pool._kept <= memory._SLACK * pool._peak
    memory.release()
    assert pool._kept == 0


def test_a_pool_of_blocks_serves_nobody_else():
    with memory.pool_of_blocks():
        own = memory.empty((50_000,), np.float32)
        address = _address(own)
        lasting = memory.lasting(own.reshape(100, 500)[3:, ::2])
        own[...] = 7
        del own
        assert _address(memory.empty((50_000,), np.float32)) == address, "handed out again within the pool"
    others = [memory.empty((50_000,), np.float32) for _ in range(3)]
    assert address not in [_address(other) for other in others]
    assert lasting.shape == (97, 250) and lasting.strides == (2000, 8) and (lasting == 7).all()


def test_small_arrays_last_as_they_are():
    array = memory.empty((2, 3), np.float64)
    array[...] = np.arange(6).reshape(2, 3)
    lasting = memory.lasting(array.T)
    assert np.shares_memory(lasting, array) and lasting.T.tolist() == array.tolist()


def test_threads_never_share_a_block():
    def work(value):
        for _ in range(300):
            array = memory.empty((20_000,), np.float32)
            array[...] = value
            assert (array == value).all()

    errors = []

    def guarded(value):
        try:
            work(value)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
