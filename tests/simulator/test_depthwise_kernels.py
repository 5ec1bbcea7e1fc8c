"""The strips of depthwise convolution: what the factory makes, for sizes that the launcher gives to version 1 too."""

import numpy as np
import pytest

from sccengine import reference
from sccengine.gradcheck import assert_close
from sccengine.kernels.cuda import depthwise, depthwise_strips
from tests.simulator.memory_order import as_images, as_rows

# kernel, stride, padding, (C, H, W), filters a channel
CASES = [
    ((3, 3), (1, 1), (1, 1), (2, 9, 7), 1),
    ((3, 3), (1, 1), (0, 2), (2, 4, 5), 2),
    ((3, 3), (2, 2), (1, 1), (2, 5, 6), 1),
    ((3, 3), (2, 2), (0, 0), (1, 6, 5), 2),
    ((3, 3), (2, 2), (2, 1), (1, 4, 3), 1),
    ((3, 3), (1, 1), (1, 1), (2, 1, 1), 1),
    ((3, 3), (2, 2), (1, 1), (1, 18, 1), 1),
    ((1, 1), (1, 1), (0, 0), (2, 3, 2), 1),
    ((1, 1), (2, 2), (0, 0), (1, 3, 4), 1),
    ((5, 5), (1, 1), (2, 2), (1, 3, 4), 1),
    ((5, 5), (2, 2), (2, 2), (1, 4, 7), 1),
    ((3, 1), (2, 1), (1, 0), (2, 5, 2), 1),
    ((2, 3), (1, 2), (1, 2), (1, 3, 4), 3),
]
# From 16 on the images of a pixel are more than one chunk.
BATCHES = [1, 2, 3, 4, 5, 8, 16, 18]
# Every case with one image (one lane a thread) and with four or eight, every batch size with the usual kernel.
PROBLEMS = [(case, batch) for number, case in enumerate(CASES) for batch in (BATCHES if number == 0 else (1, 4))]


@pytest.mark.parametrize("case, batch", PROBLEMS)
def test_strips(case, batch):
    kernel, stride, padding, (channels, height, width), multiplier = case
    random = np.random.default_rng(batch)
    x = random.standard_normal((batch, channels, height, width))
    weight = random.standard_normal((multiplier * channels, 1, *kernel))
    bias = random.standard_normal(multiplier * channels)
    y = reference.conv2d_forward(x, weight, bias, stride, padding, channels)
    dy = random.standard_normal(y.shape)
    dx, dweight, dbias = reference.conv2d_backward(dy, x, weight, stride, padding, channels)

    taps = weight[:, 0].astype(np.float32)
    got = np.full_like(as_rows(y), np.nan)
    depthwise_strips.forward(as_rows(x), taps, bias.astype(np.float32), got, stride, padding, relu=False)
    assert_close("y", as_images(got), y, "float32")
    got = np.full_like(as_rows(x), np.nan)
    depthwise_strips.backward_input(as_rows(dy), taps, got, stride, padding)
    assert_close("dx", as_images(got), dx, "float32")
    got = np.full_like(taps, np.nan)
    depthwise_strips.backward_weight(as_rows(dy), as_rows(x), got, stride, padding)
    assert_close("dweight", got[:, None], dweight, "float32")
    alone, got, sums = got, np.full_like(taps, np.nan), np.full(len(taps), np.nan, np.float32)
    depthwise_strips.backward_weight(as_rows(dy), as_rows(x), got, stride, padding, sums)
    np.testing.assert_array_equal(got, alone)
    assert_close("dbias", sums, dbias, "float32")


@pytest.mark.parametrize(
    "lanes, groups, chunk", [(4, 32, 2), (4, 9, 3), (4, 7, 7), (4, 1, 1), (1, 1, 1), (1, 99, 9), (1, 97, 97)]
)
def test_chunks_divide_a_pixel_into_lines(lanes, groups, chunk):
    # A line of the simulator has 32 bytes: eight images.
    assert depthwise_strips.chunk_of(groups, lanes) == chunk


def test_padding_does_not_touch_infinities():
    x = np.zeros((1, 3, 3, 1), np.float32)
    x[0, 0, 0, 0] = np.inf
    y = np.empty_like(x)
    depthwise.forward(x, np.ones((1, 3, 3), np.float32), None, y, (1, 1), (1, 1))
    assert np.isinf(y[0, :2, :2, 0]).all()
    assert (y[0, 2] == 0).all() and (y[0, :, 2] == 0).all()
