"""Convolution as a product of matrices that are never stored: all tile shapes, four images a place and one."""

import numpy as np
import pytest

from sccengine import reference
from sccengine.gradcheck import assert_close
from sccengine.kernels.cuda import conv2d_band, conv2d_implicit
from tests.simulator.memory_order import as_images, as_rows

# kernel, stride, padding, groups, (C, H, W), O
CASES = [
    ((3, 3), (1, 1), (1, 1), 1, (3, 4, 3), 5),
    ((3, 3), (2, 2), (1, 1), 1, (2, 5, 4), 20),
    ((3, 3), (2, 2), (0, 2), 2, (4, 4, 3), 6),
    ((3, 3), (1, 1), (1, 1), 3, (6, 1, 1), 6),
    ((1, 1), (2, 2), (0, 0), 1, (3, 3, 4), 2),
    ((1, 1), (1, 1), (1, 1), 1, (2, 2, 3), 2),
    ((5, 5), (1, 1), (2, 2), 1, (2, 3, 4), 3),
    ((3, 1), (2, 1), (1, 0), 1, (9, 4, 2), 3),
    ((2, 3), (3, 4), (1, 2), 2, (2, 5, 6), 4),
]
BATCHES = [1, 2, 3, 4, 5, 8]
# Every case with one image a place and with four, every batch size with the usual kernel.
PROBLEMS = [(case, batch) for number, case in enumerate(CASES) for batch in (BATCHES if number == 0 else (1, 4))]


def _problem(case, batch):
    kernel, stride, padding, groups, shape, filters = case
    random = np.random.default_rng(batch)
    x = random.standard_normal((batch, *shape))
    weight = random.standard_normal((filters, shape[0] // groups, *kernel))
    bias = random.standard_normal(filters)
    y = reference.conv2d_forward(x, weight, bias, stride, padding, groups)
    return x, weight, bias, y, random.standard_normal(y.shape)


@pytest.mark.parametrize("shape", conv2d_implicit.SHAPES, ids=lambda shape: f"{shape.tile}x{shape.columns}")
@pytest.mark.parametrize("case, batch", PROBLEMS)
def test_forward_and_input_gradient(case, batch, shape):
    settings = case[1:4]
    x, weight, bias, y, dy = _problem(case, batch)
    dx, _, _ = reference.conv2d_backward(dy, x, weight, *settings)
    weight = weight.astype(np.float32)
    got = np.full_like(as_rows(y), np.nan)
    conv2d_implicit.forward(as_rows(x), weight, bias.astype(np.float32), got, *settings, shape)
    assert_close("y", as_images(got), y, "float32")
    got = np.full_like(as_rows(x), np.nan)
    conv2d_implicit.backward_input(as_rows(dy), weight, got, *settings, shape)
    assert_close("dx", as_images(got), dx, "float32")


@pytest.mark.parametrize("shape", conv2d_band.SHAPES, ids=lambda shape: f"{shape.threads}threads")
@pytest.mark.parametrize("case, batch", PROBLEMS)
def test_weight_gradient(case, batch, shape):
    settings = case[1:4]
    x, weight, _, _, dy = _problem(case, batch)
    _, dweight, _ = reference.conv2d_backward(dy, x, weight, *settings)
    got = np.full(weight.shape, np.nan, np.float32)
    conv2d_band.backward_weight(as_rows(dy), as_rows(x), got, *settings, shape)
    assert_close("dweight", got, dweight, "float32")


@pytest.mark.parametrize("wanted, spans", [(0, (1, 96)), (10**6, (6, 16))])
def test_weight_gradient_in_spans(monkeypatch, wanted, spans):
    case = ((3, 3), (1, 1), (1, 1), 1, (2, 3, 4), 3)
    x, weight, _, _, dy = _problem(case, 8)
    _, dweight, _ = reference.conv2d_backward(dy, x, weight, *case[1:4])
    monkeypatch.setattr(conv2d_band, "WANTED_THREADS", wanted)
    assert conv2d_band.spans_for(conv2d_band.SHAPES[0], 1, 96) == spans
    got = np.full(weight.shape, np.nan, np.float32)
    conv2d_band.backward_weight(as_rows(dy), as_rows(x), got, *case[1:4])
    assert_close("dweight", got, dweight, "float32")


@pytest.mark.parametrize("batch", [1, 4])
def test_an_infinity_reaches_the_weights_that_saw_it(batch):
    x, dy = np.zeros((1, 5, 5, batch), np.float32), np.ones((1, 3, 3, batch), np.float32)
    # The last slab runs on past the last output pixel (2, 2), where tap (0, 0) would come to this one.
    x[0, 3, 0] = np.inf
    dweight = np.empty((1, 1, 3, 3), np.float32)
    conv2d_band.backward_weight(dy, x, dweight, (1, 1), (0, 0), 1)
    np.testing.assert_array_equal(dweight[0, 0], [[0, 0, 0], [np.inf, 0, 0], [np.inf, 0, 0]])


@pytest.mark.parametrize("wanted, splits", [(0, 1), (10**6, 3)])
def test_sums_in_parts(monkeypatch, wanted, splits):
    case = ((3, 3), (1, 1), (1, 1), 1, (6, 3, 2), 5)
    x, weight, bias, y, _ = _problem(case, 4)
    monkeypatch.setattr(conv2d_implicit, "WANTED_THREADS", wanted)
    assert conv2d_implicit.splits_for(conv2d_implicit.SHAPES[0], 1, 14) == splits
    got = np.full_like(as_rows(y), np.nan)
    conv2d_implicit.forward(as_rows(x), weight.astype(np.float32), bias.astype(np.float32), got, *case[1:4])
    assert_close("y", as_images(got), y, "float32")


def test_the_phases_of_a_stride_share_out_all_taps():
    for kernel, stride, padding in (((3, 3), (2, 2), (1, 1)), ((5, 2), (3, 1), (0, 4)), ((1, 1), (2, 2), (0, 0))):
        phases = conv2d_implicit.backward_phases(kernel, stride, padding, (7, 6))
        assert sorted(np.concatenate([phase.numbers for phase in phases])) == list(range(kernel[0] * kernel[1]))
        assert sum(phase.grid[0] * phase.grid[1] for phase in phases) == 42


def test_rows_choose_the_tile_that_wastes_least():
    tiles = [conv2d_implicit.shape_for(rows).tile for rows in (1, 16, 17, 24, 32, 33)]
    wide, middle, narrow = (shape.tile for shape in conv2d_implicit.SHAPES)
    assert (wide, middle, narrow) == (32, 16, 8)
    assert tiles == [8, 16, 8, 8, 32, 8]
