"""The norm of many gradients: beyond float32's range, over several chunks and dtypes, of nothing; the scaling by it."""

import numpy as np
import pytest

from sccengine.kernels.cuda import clip_grad_norm, launch


def norm(*gradients):
    out = np.empty(1)
    clip_grad_norm.norm(gradients, out)
    return out[0]


def test_squares_beyond_float32():
    assert norm(np.array([3e30, 4e30], np.float32)) == pytest.approx(5e30, rel=1e-7)


def test_small_numbers_beside_a_large_one():
    gradient = np.ones(300, np.float32)
    gradient[0] = 1e5
    assert norm(gradient) ** 2 == pytest.approx(1e10 + 299, rel=1e-15)


@pytest.mark.parametrize("count", [1, 3, 4, 127, 128, 129, 391])
def test_every_element_once(count):
    assert norm(np.full(count, 2.0)) == pytest.approx(2 * count**0.5, rel=1e-15)


def test_tensors_of_both_dtypes_and_none():
    gradients = np.full((2, 65), 3, np.float32), np.full(7, 4.0), np.empty((0, 2), np.float32), np.ones(1)
    assert norm(*gradients) == pytest.approx((130 * 9 + 7 * 16 + 1) ** 0.5, rel=1e-15)
    assert norm(np.empty(0, np.float32)) == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_launch_scales_as_many_do(dtype):
    random = np.random.default_rng(0)
    gradients = [random.standard_normal(count).astype(dtype) for count in (1, 130, 4, 7)]
    wanted = [gradient.copy() for gradient in gradients]
    total, partials = np.empty(1), np.empty(2)
    clip_grad_norm.norm(gradients, total)
    for gradient in wanted:
        arguments = gradient, total, np.float64(0.5), gradient.size
        launch.elements(clip_grad_norm.scale_v1, gradient.size, *arguments)
    clip_grad_norm.scale(gradients, total, 0.5)
    for got, want in zip(gradients, wanted):
        np.testing.assert_array_equal(got, want)
    launch.blocks(clip_grad_norm.squares_v1, 2, launch.BLOCK, np.concatenate(gradients), partials, 142)
    clip_grad_norm.norm(gradients, total)
    assert total[0] ** 2 == pytest.approx(partials.sum(), rel=1e-14)


@pytest.mark.parametrize("total, want", [(1.9, [1, -3]), (np.nan, [np.nan, np.nan])])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_gradients_within_the_limit_stay_and_those_of_a_nan_norm_are_nan(version, total, want):
    gradient, norm = np.array([1.0, -3.0]), np.array([total])
    if version == "v1":
        launch.elements(clip_grad_norm.scale_v1, 2, gradient, norm, np.float64(2.0), 2)
    else:
        clip_grad_norm.scale([gradient], norm, 2.0)
    np.testing.assert_array_equal(gradient, want)
