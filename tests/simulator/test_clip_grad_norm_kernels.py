"""The sum of squares: in float64 beyond float32's range, over more blocks than leave a partial sum, of nothing."""

import math

import numpy as np

from sccengine.kernels.cuda import clip_grad_norm


def test_squares_beyond_float32():
    gradient = np.array([3e30, 4e30], np.float32)
    total = clip_grad_norm.sum_of_squares(gradient)
    assert type(total) is float
    assert math.isclose(math.sqrt(total), 5e30, rel_tol=1e-7)


def test_small_numbers_beside_a_large_one():
    gradient = np.ones(300, np.float32)
    gradient[0] = 1e5
    assert clip_grad_norm.sum_of_squares(gradient) == 1e10 + 299


def test_every_element_once_where_blocks_stride(monkeypatch):
    monkeypatch.setattr(clip_grad_norm, "PARTIALS", 3)
    assert clip_grad_norm.sum_of_squares(np.full(151, 2.0)) == 604


def test_nothing():
    assert clip_grad_norm.sum_of_squares(np.empty(0, np.float32)) == 0
