"""The register-tiled contraction in the simulator: many windows, rows that cannot be read as vectors, cut panels."""

import os

import numpy as np
import pytest

from sccengine.kernels.cuda import scc, scc_register_band, scc_register_tiles
from sccengine.windows import ChannelWindows

pytestmark = pytest.mark.skipif(os.environ.get("NUMBA_ENABLE_CUDASIM") != "1", reason="needs the simulator")

VARIANTS = list(scc_register_tiles.SHAPES)
WINDOWS = [
    ChannelWindows.sliding(6, 5, 3, 0.33),
    ChannelWindows.sliding(40, 33, 8, 0.25),
    ChannelWindows.sliding(20, 50, 2, 0.5),
    ChannelWindows.sliding(24, 7, 2, 0.9),
    ChannelWindows.sliding(16, 3, 16, 0),
    ChannelWindows.grouped(36, 6, 3),
    ChannelWindows.dense(17, 10),
    ChannelWindows.dense(1, 1),
]
# Fewer than a vector; more than one strip, of whole vectors and not.
COLUMNS = (1, 20, 37)


def _problem(windows, columns, offset=0):
    """x, weight, bias and dy; their first element `offset` elements behind an address that is a multiple of 16."""
    random = np.random.default_rng(columns)

    def array(*shape):
        memory = np.empty(int(np.prod(shape)) + 8, np.float32)
        first = (-memory.ctypes.data // 4 % 4 + offset) % 8
        part = memory[first : first + int(np.prod(shape))].reshape(shape)
        part[:] = random.standard_normal(shape)
        return part

    O, C, K = windows.out_channels, windows.in_channels, windows.width
    return array(C, columns), array(O, K), array(O), array(O, columns)


def _dense(windows, weight):
    dense = np.zeros((windows.out_channels, windows.in_channels))
    np.put_along_axis(dense, windows.channels().astype(np.int64), weight, axis=1)
    return dense


def _close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("windows", WINDOWS, ids=lambda windows: f"{windows.in_channels}-{windows.out_channels}")
def test_all_three_contractions(windows, columns, variant):
    x, weight, bias, dy = _problem(windows, columns)
    dense = _dense(windows, weight)
    y, dx, dweight = (np.full_like(array, np.nan) for array in (dy, x, weight))
    scc.forward(x, weight, bias, y, windows, variant)
    _close(y, dense @ x + bias[:, None])
    scc.forward(x, weight, None, y, windows, variant, relu=True)
    _close(y, np.maximum(dense @ x, 0))
    scc.backward_input(dy, weight, dx, windows, variant)
    _close(dx, dense.T @ dy)
    scc.backward_weight(dy, x, dweight, windows, variant)
    _close(dweight, np.take_along_axis(dy.astype(float) @ x.T, windows.channels().astype(np.int64), axis=1))


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_that_do_not_start_at_multiples_of_16_bytes_give_the_same_bits(variant):
    windows = WINDOWS[1]

    def run(offset):
        x, weight, bias, dy = _problem(windows, 20, offset)
        y, dx, dweight = dy.copy(), x.copy(), weight.copy()
        scc.forward(x, weight, bias, y, windows, variant)
        scc.backward_input(dy, weight, dx, windows, variant)
        scc.backward_weight(dy, x, dweight, windows, variant)
        return [array.tobytes() for array in (y, dx, dweight)]

    assert run(0) == run(1)


def test_panels_and_columns_are_cut_where_blocks_are_few():
    windows = ChannelWindows.dense(64, 4)
    for variant in VARIANTS:
        assert scc_register_tiles.splits_of(windows, False, variant, 8) > 1
    for shape in scc_register_band.SHAPES.values():
        spans, span = scc_register_band.spans_of(windows, shape, 100)
        assert spans > 1 and (spans - 1) * span < 100 <= spans * span
    x, weight, bias, dy = _problem(windows, 100)
    for variant in VARIANTS:
        y, dweight = np.full_like(dy, np.nan), np.full_like(weight, np.nan)
        scc.forward(x, weight, bias, y, windows, variant, relu=True)
        _close(y, np.maximum(weight.astype(float) @ x + bias[:, None], 0))
        scc.backward_weight(dy, x, dweight, windows, variant)
        np.testing.assert_allclose(dweight, dy.astype(float) @ x.T, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("variant", VARIANTS)
def test_relu_lets_nan_pass_and_infinities_stay_in_the_tiles_that_read_them(variant):
    windows = ChannelWindows.grouped(64, 64, 2)
    x, weight, _, _ = _problem(windows, 8)
    y = np.empty((64, 8), np.float32)
    x[:32] = np.inf
    x[0] = np.nan
    scc.forward(x, weight, None, y, windows, variant, relu=True)
    assert np.isnan(y[:32]).all()
    assert np.isfinite(y[32:]).all()
