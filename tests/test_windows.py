"""Channel windows: the definition by its own loop, identities, tile cuts, and errors that name what would work."""

import copy
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from sccengine.windows import ChannelWindows

SETTINGS = [
    (channels, filters, groups, overlap)
    for channels in (1, 4, 6, 12, 16, 40)
    for filters in (1, 3, 8, 20, 45)
    for groups in (1, 2, 3, 4, 5, 8, 16)
    for overlap in ("0", "0.1", "0.25", "0.29", "0.33", "0.5", "0.6", "0.75", "0.9")
    if channels % groups == 0
]


def _mask_by_definition(channels, filters, groups, overlap):
    width = channels // groups
    shift = width - math.floor(Fraction(overlap) * width)
    mask = np.zeros((filters, channels), bool)
    for f in range(filters):
        for k in range(width):
            mask[f, (f * shift + k) % channels] = True
    return mask


def test_sliding_follows_the_definition():
    for channels, filters, groups, overlap in SETTINGS:
        windows = ChannelWindows.sliding(channels, filters, groups, float(overlap))
        assert windows.width == channels // groups
        assert 1 <= windows.shift <= windows.width
        np.testing.assert_array_equal(windows.mask(), _mask_by_definition(channels, filters, groups, overlap))
        distinct = len({f * windows.shift % channels for f in range(10 * channels)})
        assert windows.cycle == distinct


@pytest.mark.parametrize(
    "overlap", [0.29, "0.29", Decimal("0.29"), Fraction(29, 100), np.float64(0.29), np.float32(0.29)]
)
def test_overlap_is_the_decimal_written(overlap):
    assert ChannelWindows.sliding(100, 1, 1, overlap).shift == 100 - 29


def test_effective_overlap():
    assert ChannelWindows.sliding(64, 64, 2, 0.5).overlap == 0.5
    assert ChannelWindows.sliding(64, 64, 2, 0.33).overlap == 10 / 32
    assert ChannelWindows.grouped(64, 64, 2).overlap == ChannelWindows.dense(64, 64).overlap == 0


def test_no_overlap_is_grouped_pointwise_then_shuffled():
    channels, filters, groups = 12, 18, 3
    sliding = ChannelWindows.sliding(channels, filters, groups, 0)
    grouped = ChannelWindows.grouped(channels, filters, groups)
    shuffled = grouped.mask().reshape(groups, filters // groups, channels).swapaxes(0, 1).reshape(filters, channels)
    np.testing.assert_array_equal(sliding.mask(), shuffled)


def test_one_group_is_pointwise():
    assert ChannelWindows.sliding(10, 7, 1, 0.3).mask().all()
    assert ChannelWindows.dense(10, 7).mask().all()


def test_macs_and_equal_settings_are_one_object():
    windows = ChannelWindows.sliding(16, 24, 4, 0.5)
    assert windows.macs(9) == 24 * 4 * 9
    assert windows is ChannelWindows.sliding(16, 24, 4, "0.5")


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("kind", ["tiles", "transposed_tiles"])
def test_tiles_cover_every_weight_once(kind, size):
    all_windows = [ChannelWindows.sliding(*settings) for settings in SETTINGS[::7]]
    all_windows += [ChannelWindows.grouped(12, 18, 6), ChannelWindows.dense(9, 5), ChannelWindows.grouped(16, 16, 16)]
    for windows in all_windows:
        tiles = getattr(windows, kind)(size)
        seen = np.zeros(windows.mask().shape, int)
        for rows, first, length in zip(tiles.rows, tiles.first, tiles.length):
            sources = tiles.panel[first : first + length]
            assert len(sources) == length == len(set(sources))
            for row in rows[rows >= 0]:
                for source in sources:
                    f, c = (source, row) if kind == "transposed_tiles" else (row, source)
                    seen[f, c] += (c - windows.starts[f]) % windows.in_channels < windows.width
        np.testing.assert_array_equal(seen, windows.mask())
        destinations = windows.in_channels if kind == "transposed_tiles" else windows.out_channels
        assert sorted(tiles.rows[tiles.rows >= 0]) == list(range(destinations))


def test_tiles_of_shared_windows_read_nothing_twice():
    windows = ChannelWindows.sliding(64, 64, 2, 0.5)  # D = 4: sixteen filters share each window
    assert windows.tiles(8).reads * 8 == windows.macs(1)


@pytest.mark.parametrize(
    "settings, error, message",
    [
        (
            (12, 8, 5, 0.5),
            ValueError,
            "groups=5 does not divide in_channels=12: .* groups=4 or 6, or in_channels=10 or 15",
        ),
        ((4, 8, 8, 0.5), ValueError, "groups=8 does not divide in_channels=4: .* groups=4, or in_channels=8"),
        ((12, 8, 2, 1), ValueError, "overlap must be at least 0 and below 1, got 1"),
        ((12, 8, 2, -0.1), ValueError, "got -0.1: the nearest that works is 0"),
        ((12, 8, 2, float("nan")), TypeError, "overlap must be a number"),
        ((12, 8, 2, "half"), TypeError, "overlap must be a number .* got 'half'"),
        ((12, 8, 2, True), TypeError, "overlap must be a number"),
        ((0, 8, 1, 0.5), ValueError, "in_channels must be at least 1, got 0"),
        ((12, -3, 1, 0.5), ValueError, "out_channels must be at least 1, got -3"),
        ((12, 8, 0, 0.5), ValueError, "groups must be at least 1, got 0"),
        ((12.0, 8, 2, 0.5), TypeError, "in_channels must be a whole number, got 12.0"),
    ],
)
def test_bad_settings(settings, error, message):
    with pytest.raises(error, match=message):
        ChannelWindows.sliding(*settings)


def test_windows_can_be_copied():
    windows = ChannelWindows.sliding(8, 4, 2, 0.5)
    np.testing.assert_array_equal(copy.deepcopy(windows).mask(), windows.mask())


def test_bad_grouped_settings():
    with pytest.raises(ValueError, match="groups=4 does not divide out_channels=6: .* out_channels=4 or 8"):
        ChannelWindows.grouped(8, 6, 4)
