"""The launcher's rules, and that the simulator's faster block manager names a failing thread."""

import numpy as np
import pytest
from numba import cuda

from sccengine.kernels.cuda import arguments, launch


@cuda.jit
def scale_kernel(x, bias, has_bias, y, count, factor):
    i = cuda.grid(1)
    if i < count:
        y[i] = x[i] * factor + (bias[0] if has_bias else 0)


@cuda.jit
def reverse_kernel(x):
    shared = cuda.shared.array(8, x.dtype)
    thread = cuda.threadIdx.x
    shared[thread] = x[thread]
    cuda.syncthreads()
    x[thread] = shared[7 - thread]


@cuda.jit
def reverse_dynamic_kernel(x, count):
    shared = cuda.shared.array(0, x.dtype)
    thread = cuda.threadIdx.x
    shared[thread] = x[thread]
    cuda.syncthreads()
    x[thread] = shared[count - 1 - thread]


@cuda.jit
def failing_kernel(x):
    if cuda.threadIdx.x == 5:
        x[1000] = 0
    cuda.syncthreads()


def test_arguments_are_flat_and_typed():
    x = np.arange(20, dtype=np.float32).reshape(4, 5)
    y = np.zeros_like(x)
    launch.elements(scale_kernel, x.size, x, None, False, y, x.size, 2.0)
    np.testing.assert_array_equal(y, 2 * x)


def test_a_kernel_may_work_in_place():
    x = np.arange(20, dtype=np.float64)
    launch.elements(scale_kernel, x.size, x, np.ones(1), True, x, x.size, 3.0)
    np.testing.assert_array_equal(x, 3 * np.arange(20) + 1)


def test_dynamic_shared_memory():
    x = np.arange(8, dtype=np.float32)
    launch.blocks(reverse_dynamic_kernel, 1, 8, x, 8, shared=x.nbytes)
    np.testing.assert_array_equal(x, np.arange(8)[::-1])


def test_an_empty_grid_launches_nothing():
    launch.elements(failing_kernel, 0, np.zeros(0, np.float32))
    launch.blocks(failing_kernel, (3, 0), 8, np.zeros(4, np.float32))


def test_what_a_kernel_cannot_take_is_refused():
    x = np.zeros((4, 6), np.float32)
    with pytest.raises(ValueError, match="not C-contiguous"):
        launch.elements(scale_kernel, 24, x.T, None, False, x, 24, 1.0)
    huge = np.broadcast_to(np.zeros(1, np.float32), (2**31,))
    with pytest.raises(ValueError, match="use a smaller batch"):
        launch.elements(scale_kernel, 24, huge, None, False, x, 24, 1.0)
    with pytest.raises(ValueError, match="CUDA launches at most"):
        launch.blocks(failing_kernel, (1, 70_000), 8, x)
    with pytest.raises(TypeError, match="at least one array"):
        launch.blocks(failing_kernel, 1, 8, 3)
    with pytest.raises(TypeError, match=r"pass np\.float32"):
        launch.blocks(failing_kernel, 1, 8, np.zeros(4, np.int32), 2.0)


def test_a_kernel_of_many_rows_takes_any_number_of_them_but_no_longer_ones():
    kernel = arguments.many_rows(cuda.jit(failing_kernel.fn))
    few, many = (np.broadcast_to(np.zeros(1, np.float32), shape) for shape in ((2, 2**31), (2**31, 2)))
    arguments.check_array(np.zeros((3, 4), np.float32), kernel)
    with pytest.raises(ValueError, match="use a smaller batch"):
        arguments.check_array(few, kernel)
    with pytest.raises(ValueError, match="not C-contiguous"):  # which a broadcast array is not; its size is none
        arguments.check_array(many, kernel)


def test_a_failing_thread_is_named_and_the_next_launch_works():
    with pytest.raises(RuntimeError, match=r"IndexError in thread \(5, 0, 0\) of block \(0, 0, 0\)"):
        launch.blocks(failing_kernel, 2, 8, np.zeros(1000, np.float32))
    x = np.arange(8, dtype=np.float32)
    launch.blocks(reverse_kernel, 1, 8, x)
    np.testing.assert_array_equal(x, np.arange(8)[::-1])
