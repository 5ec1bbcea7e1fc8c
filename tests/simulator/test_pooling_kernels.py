"""Pooling with four images a thread, with one, and in cells: the launchers' choice, and equal results."""

import numpy as np
import pytest

from sccengine import reference
from sccengine.gradcheck import assert_close
from sccengine.kernels.cuda import avg_pool2d, global_avg_pool2d, max_pool2d
from sccengine.kernels.cuda.vectors import vectors_serve, windows_apart
from tests.simulator.memory_order import as_images, as_rows

# kernel, stride, padding, (C, H, W)
CASES = [
    ((2, 2), (2, 2), (0, 0), (2, 4, 6)),
    ((2, 2), (2, 2), (0, 0), (2, 5, 3)),
    ((2, 1), (3, 2), (0, 0), (1, 6, 5)),
    ((3, 3), (2, 2), (1, 1), (2, 5, 4)),
    ((3, 2), (1, 1), (1, 0), (1, 3, 4)),
]
BATCHES = [1, 2, 3, 4, 5, 8]


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("kernel, stride, padding, shape", CASES)
def test_max_pooling(kernel, stride, padding, shape, batch):
    random = np.random.default_rng(batch)
    # Small whole numbers: the first of equals must win.
    x = random.integers(-3, 3, (batch, *shape)).astype(np.float64)
    want, winners = reference.max_pool2d_forward(x, kernel, stride, padding)
    y, indices = np.full_like(as_rows(want), np.nan), np.full(as_rows(want).shape, -7, np.int32)
    max_pool2d.forward(as_rows(x), y, indices, kernel, stride, padding)
    np.testing.assert_array_equal(as_images(y), want)
    np.testing.assert_array_equal(as_images(indices), winners)
    dy = random.standard_normal(want.shape)
    dx = np.full_like(as_rows(x), np.nan)
    max_pool2d.backward(as_rows(dy), indices, dx, kernel, stride, padding)
    assert_close("dx", as_images(dx), reference.max_pool2d_backward(dy, x, kernel, stride, padding), "float32")


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("kernel, stride, padding, shape", CASES)
def test_average_pooling(kernel, stride, padding, shape, batch):
    random = np.random.default_rng(batch)
    x = random.standard_normal((batch, *shape))
    want = reference.avg_pool2d_forward(x, kernel, stride, padding)
    y = np.full_like(as_rows(want), np.nan)
    avg_pool2d.forward(as_rows(x), y, kernel, stride, padding)
    assert_close("y", as_images(y), want, "float32")
    dy = random.standard_normal(want.shape)
    dx = np.full_like(as_rows(x), np.nan)
    avg_pool2d.backward(as_rows(dy), dx, kernel, stride, padding)
    assert_close("dx", as_images(dx), reference.avg_pool2d_backward(dy, x.shape, kernel, stride, padding), "float32")


@pytest.mark.parametrize("batch", [*BATCHES, 72])
@pytest.mark.parametrize("shape", [(2, 3, 7), (3, 1, 1), (1, 2, 1)])
def test_global_average_pooling(shape, batch):
    random = np.random.default_rng(batch)
    x = random.standard_normal((batch, *shape))
    rows = as_rows(x).reshape(shape[0], -1, batch)
    y = np.full((shape[0], batch), np.nan, np.float32)
    global_avg_pool2d.forward(rows, y)
    assert_close("y", y.T, reference.global_avg_pool2d_forward(x), "float32")
    dy = random.standard_normal((batch, shape[0]))
    dx = np.full_like(rows, np.nan)
    global_avg_pool2d.backward(as_rows(dy), dx)
    want = reference.global_avg_pool2d_backward(dy, x.shape)
    assert_close("dx", as_images(dx.reshape(*shape, batch)), want, "float32")


def test_when_vectors_serve():
    x = np.zeros((2, 3, 8), np.float32)
    assert vectors_serve(x)
    assert not vectors_serve(x.astype(np.float64))
    assert not vectors_serve(x[..., :7])
    # Of four neighbouring starts one is at a multiple of 16 bytes.
    flat = np.zeros(19, np.float32)
    assert sum(vectors_serve(flat[i : i + 16].reshape(2, 8)) for i in range(4)) == 1


def test_which_windows_lie_apart():
    assert windows_apart((2, 2), (2, 3), (0, 0))
    assert not windows_apart((2, 2), (2, 1), (0, 0))
    assert not windows_apart((2, 2), (2, 2), (1, 0))
