"""Sums of rows, ReLU, addition, scaling, channel shuffle: every length of a tail, with 128-bit accesses and without."""

import math

import numpy as np
import pytest

from sccengine.kernels.cuda import add, channel_shuffle, relu, row_pieces, rows, scale
from tests.simulator.placement import PLACES

at_places = pytest.mark.parametrize("place", PLACES)

COUNTS = [1, 2, 3, 4, 5, 31, 33, 64, 131]


def numbers(count, place):
    return place(np.random.default_rng(count).standard_normal(count).astype(np.float32))


def unwritten(array, place):
    return place(np.full_like(array, np.nan))


@at_places
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("ceiling", [math.inf, 0.5])
def test_relu(count, ceiling, place):
    x = numbers(count, place)
    dy = numbers(count + 1, place)[:count]
    y, dx = unwritten(x, place), unwritten(x, place)
    relu.forward(x, y, ceiling)
    np.testing.assert_array_equal(y, np.clip(x, 0, ceiling))
    relu.backward(dy, y, dx, ceiling)
    np.testing.assert_array_equal(dx, np.where((x > 0) & (x < ceiling), dy, 0))


@at_places
@pytest.mark.parametrize("count", COUNTS)
def test_add(count, place):
    a, b = numbers(count, place), numbers(count + 1, place)[:count]
    y = unwritten(a, place)
    add.forward(a, b, y)
    np.testing.assert_array_equal(y, a + b)


@at_places
@pytest.mark.parametrize("count", COUNTS)
def test_scale(count, place):
    x = numbers(count, place)
    y = unwritten(x, place)
    scale.forward(x, y, -0.3)
    np.testing.assert_array_equal(y, np.float32(-0.3) * x)


@at_places
@pytest.mark.parametrize("length", [1, 3, 4, 12, 37])
def test_channel_shuffle(length, place):
    x = numbers(12 * length, place).reshape(12, length)
    y = unwritten(x, place)
    channel_shuffle.forward(x, y, 3)
    np.testing.assert_array_equal(y, x.reshape(3, 4, length).swapaxes(0, 1).reshape(12, length))


@at_places
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 5), (2, 200), (1, 1003), (9, 64), (20, 7)], ids=str)
def test_sum_rows(shape, place):
    x = numbers(math.prod(shape), place).reshape(shape)
    sums, again = (np.full(shape[0], np.nan, np.float32) for _ in range(2))
    rows.sum_rows(x, sums)
    np.testing.assert_allclose(sums, x.astype(np.float64).sum(axis=1), rtol=1e-5, atol=1e-5)
    rows.sum_rows(x, again)
    np.testing.assert_array_equal(sums, again)


def test_rows_here_are_of_one_piece_and_of_several():
    assert row_pieces.cut(9, 64)[0] == 1 and row_pieces.cut(1, 1003)[0] > 1
