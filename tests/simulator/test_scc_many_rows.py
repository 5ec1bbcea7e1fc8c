"""The contraction of more elements than 32 bits can count, of which the first columns are looked at.

The arrays are zeros that the operating system has promised and nobody has touched, so they take next to no memory.
"""

import numpy as np
import pytest

from sccengine.gradcheck import assert_close
from sccengine.kernels.cuda import launch, rows, scc, scc_register_band, scc_register_tiles, scc_tensor, scc_tensor_band
from sccengine.windows import ChannelWindows
from tests.simulator.test_scc_tensor_kernels import ROUNDING, expected, operands

WINDOWS = ChannelWindows.sliding(5, 5, 1, 0.4)
# Row 4 begins beyond what an int32 counts; rows begin at multiples of 16 bytes or not.
COLUMNS = [2**29 + 4, 2**29 + 3]
# As many as the narrowest tile has.
SEEN = 16


def huge(values, columns):
    """An array of so many columns whose first are `values`."""
    try:
        array = np.zeros((len(values), columns), np.float32)
    except MemoryError:
        pytest.skip("the operating system promises no 11 GB")
    assert array.size > 2**31
    array[:, :SEEN] = values
    return array


@pytest.fixture
def first_columns(monkeypatch):
    """Kernels make, or add up, the first columns only."""
    cut, blocks = scc_tensor._cut, launch.blocks

    def first_strip(kernel, grid, block, *args, shared=0):
        if kernel in scc_register_tiles.CONTRACT.values():
            *_, tiles, splits, _, _ = args
            grid = tiles * splits
        blocks(kernel, grid, block, *args, shared=shared)

    monkeypatch.setattr(launch, "blocks", first_strip)
    monkeypatch.setattr(scc_tensor, "_cut", lambda *problem: cut(*problem)._replace(spans=1, sharers=1))
    for module in (scc_register_band, scc_tensor_band):
        monkeypatch.setattr(module, "spans_of", lambda *problem: (1, 32))


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("variant", [*scc_register_tiles.SHAPES, *scc_tensor.SHAPES])
def test_values(variant, columns, first_columns):
    x, weight, bias, dy = operands(WINDOWS, SEEN)
    y, dx, dweight = huge(np.nan * dy, columns), huge(np.nan * x, columns), np.full_like(weight, np.nan)
    huge_x, huge_dy = huge(x, columns), huge(dy, columns)
    scc.forward(huge_x, weight, bias, y, WINDOWS, variant)
    scc.backward_input(huge_dy, weight, dx, WINDOWS, variant)
    scc.backward_weight(huge_dy, huge_x, dweight, WINDOWS, variant)
    got, want = (y[:, :SEEN], dx[:, :SEEN], dweight), expected(WINDOWS, x, weight, bias, dy)
    for name, result, right in zip(("y", "dx", "dweight"), got, want):
        assert_close(name, result, right, ROUNDING.get(variant, "float32"))


def test_sums_of_more_rows_than_a_launch_can_index(monkeypatch):
    monkeypatch.setattr(rows, "ELEMENT_LIMIT", 31)
    for shape in ((7, 10), (9, 7), (1, 40)):  # by threes, by fours; one is left to the launcher, which refuses it
        x = np.random.default_rng(0).standard_normal(shape)
        got = np.full(len(x), np.nan)
        rows.sum_rows(x, got)
        np.testing.assert_allclose(got, x.sum(axis=1))
