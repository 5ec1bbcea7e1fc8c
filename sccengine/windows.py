"""Channel windows: which input channels each filter of a 1x1-family convolution reads. Exact integers only.

A filter f reads the cyclic run of K channels that begins at ``starts[f]``:

    y[f] = bias[f] + sum_{k < K} weight[f, k] * x[(starts[f] + k) mod C]

Sliding-channel convolution (DSXplore, IPDPS 2021), grouped pointwise and dense pointwise convolution differ only in
their table of starts, so one set of kernels serves them all. The weight that joins filter f and channel c is
``weight[f, tap]`` with ``tap = (c - starts[f]) mod C``, where that is below K, and zero elsewhere: forward, input
gradient and weight gradient all follow this one rule.

For kernels, ``tiles`` cuts the filters, sorted by start, into runs whose windows overlap; a kernel reads the union of
a tile's windows once. ``transposed_tiles`` is the same for the input gradient: the filters covering a run of channels
are a contiguous cyclic run of the sorted order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, lru_cache

import numpy as np

from sccengine.numeric import is_whole

# What finishing a tile costs beside its reads, in source rows: only the proportion to a window's width matters.
_TILE_COST = 4
# More channels are a slip of the pen, and would fill the memory before anything else refuses them.
_MOST_CHANNELS = 2**24


@dataclass(frozen=True, eq=False)
class Tiles:
    """A cut of the destination rows of a contraction into tiles of at most ``size`` rows.

    Tile t writes the rows ``rows[t]`` and reads the source rows ``panel[first[t] : first[t] + length[t]]``. The
    source rows stand in ``panel`` in the order in which tiles need them, those that a cyclic wrap needs again
    repeated at its end, so a tile's reads are always one contiguous slice.
    """

    rows: np.ndarray  # (T, size) int32, -1 where a tile is not full
    panel: np.ndarray  # (R,) int32, source rows
    first: np.ndarray  # (T,) int32, into panel
    length: np.ndarray  # (T,) int32

    @cached_property
    def count(self):
        return len(self.first)

    @cached_property
    def size(self):
        return self.rows.shape[1]

    @cached_property
    def tables(self):
        """(panel, first, length, rows made flat): what a compiled loop over the tiles takes."""
        return self.panel, self.first, self.length, self.rows.reshape(-1)

    @cached_property
    def reads(self):
        """Source rows read by all tiles together: the arithmetic done, zeros included, divided by size."""
        return int(self.length.sum())

    @cached_property
    def begins(self):
        """(T + 1,) int64: how many rows the tiles before each write, and all together."""
        return np.cumsum(np.append(0, (self.rows >= 0).sum(axis=1)))


@dataclass(frozen=True, eq=False)
class ChannelWindows:
    """Windows of ``width`` channels for ``out_channels`` filters over ``in_channels`` cyclic channels.

    Build one with :meth:`sliding`, :meth:`grouped` or :meth:`dense`; equal settings give the same object.
    """

    in_channels: int
    out_channels: int
    groups: int
    width: int  # K
    shift: int  # S: start[f + 1] - start[f] for sliding windows; K for grouped ones, 0 for dense ones
    cycle: int  # D: the number of distinct windows before they repeat
    starts: np.ndarray = field(repr=False)  # (O,) int32
    _tiles: dict = field(default_factory=dict, repr=False)

    @classmethod
    def sliding(cls, in_channels, out_channels, groups, overlap):
        """Sliding-channel windows: K = C / groups, S = K - floor(overlap * K), start[f] = (f * S) mod C.

        ``overlap`` is read as the decimal number that was written (0.29 is 29/100, not the nearest binary
        fraction), so that floor(overlap * K) is exact; ``str``, ``Decimal`` and ``Fraction`` work too.

        Raises ValueError where groups does not divide the input channels, the overlap lies outside [0, 1) or a
        number of channels is below 1, and TypeError where a setting is not a number of the right kind.
        """
        return _remembered(_checked_sliding, in_channels, out_channels, groups, overlap)

    @classmethod
    def grouped(cls, in_channels, out_channels, groups):
        """Windows of a grouped pointwise convolution: filter f reads group f // (O / groups)."""
        return _remembered(_checked_grouped, in_channels, out_channels, groups)

    @classmethod
    def dense(cls, in_channels, out_channels):
        """The window of a pointwise convolution or a linear layer: every filter reads every channel."""
        return _remembered(_checked_dense, in_channels, out_channels)

    @property
    def overlap(self):
        """The effective overlap (K - S) / K of neighbouring windows, as a float."""
        return 0.0 if self.shift == 0 else (self.width - self.shift) / self.width

    def mask(self):
        """bool (O, C): True where filter f reads channel c."""
        taps = (np.arange(self.in_channels)[None, :] - self.starts[:, None]) % self.in_channels
        return taps < self.width

    def channels(self):
        """int32 (O, K): the channel that each tap of each filter reads."""
        return ((self.starts[:, None] + np.arange(self.width)[None, :]) % self.in_channels).astype(np.int32)

    def scatter(self, weight):
        """Dense (O, C) array of the weights (O, K): those of a pointwise convolution that computes the same."""
        dense = np.zeros((self.out_channels, self.in_channels), weight.dtype)
        np.put_along_axis(dense, self.channels().astype(np.int64), weight, axis=1)
        return dense

    def macs(self, pixels):
        """Multiply-accumulates for one image of ``pixels`` output pixels."""
        return self.out_channels * self.width * int(pixels)

    def tiles(self, size):
        """Tiles of at most ``size`` filters (destination: filters, source: channels)."""
        return self._cached(("forward", size), self._cut_filters)

    def transposed_tiles(self, size):
        """Tiles of at most ``size`` channels (destination: channels, source: filters sorted by start)."""
        return self._cached(("transposed", size), self._cut_channels)

    def _cached(self, key, cut):
        if key not in self._tiles:
            self._tiles[key] = cut(key[1])
        return self._tiles[key]

    def _cut_filters(self, size):
        channels = self.in_channels
        order = np.argsort(self.starts, kind="stable")
        starts = self.starts[order].astype(np.int64)

        def reads(begin, end):
            return int(min(starts[end - 1] + self.width - starts[begin], channels))

        cuts = _cheapest_cuts(self.out_channels, size, reads)
        first = [int(starts[begin]) for begin, _ in cuts]
        length = [reads(begin, end) for begin, end in cuts]
        return _pack_tiles(order, np.arange(channels), cuts, first, length, size)

    def _cut_channels(self, size):
        channels, filters = self.in_channels, self.out_channels
        order = np.argsort(self.starts, kind="stable")
        # Sorted starts unrolled over three turns, so that the run (c0 - K, c1] never needs a modulo.
        unrolled = np.concatenate([self.starts[order].astype(np.int64) + turn * channels for turn in (-1, 0, 1)])
        below = np.searchsorted(unrolled, np.arange(channels) - self.width, side="right")
        upto = np.searchsorted(unrolled, np.arange(channels), side="right")

        def reads(begin, end):
            return int(min(upto[end - 1] - below[begin], filters))

        cuts = _cheapest_cuts(channels, size, reads)
        first = [int(below[begin]) % filters for begin, _ in cuts]
        length = [reads(begin, end) for begin, end in cuts]
        return _pack_tiles(np.arange(channels), order, cuts, first, length, size)


def exact_overlap(overlap):
    """The overlap as an exact Fraction of the decimal number written; ValueError outside [0, 1)."""
    if isinstance(overlap, bool):
        raise TypeError(f"overlap must be a number in [0, 1), got {overlap!r}")
    try:
        exact = Fraction(str(overlap))
    except (ValueError, ZeroDivisionError):
        raise TypeError(f"overlap must be a number in [0, 1), got {overlap!r}") from None
    if not 0 <= exact < 1:
        advice = "the nearest that works is 0" if exact < 0 else "for instance 0.9"
        raise ValueError(f"overlap must be at least 0 and below 1, got {overlap}: {advice}")
    return exact


def _channels(in_channels, out_channels, groups):
    for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("groups", groups)):
        if not is_whole(value):
            raise TypeError(f"{name} must be a whole number, got {value!r}")
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}: the nearest that works is 1")
        if value > _MOST_CHANNELS:
            raise ValueError(f"{name} must be at most {_MOST_CHANNELS:,}, got {value:,}")
    if in_channels % groups:
        divisors = [d for d in range(1, in_channels + 1) if in_channels % d == 0]
        lower = max((d for d in divisors if d < groups), default=1)
        higher = min((d for d in divisors if d > groups), default=in_channels)
        fits = " or ".join(str(d) for d in sorted({lower, higher}))
        below, above = in_channels // groups * groups, -(-in_channels // groups) * groups
        channels = " or ".join(str(c) for c in (below, above) if c)
        raise ValueError(
            f"groups={groups} does not divide in_channels={in_channels}: "
            f"the nearest that work are groups={fits}, or in_channels={channels}"
        )
    return int(in_channels), int(out_channels), int(groups)


def _remembered(build, *settings):
    """``build(*settings)``; checking settings takes longer than many a launch, so it is done once for each."""
    try:
        return build(*settings)
    except TypeError:
        # Perhaps because a setting cannot be hashed: then the check says what it should be.
        return build.__wrapped__(*settings)


@lru_cache(maxsize=1024, typed=True)
def _checked_sliding(in_channels, out_channels, groups, overlap):
    return _sliding(*_channels(in_channels, out_channels, groups), exact_overlap(overlap))


@lru_cache(maxsize=1024, typed=True)
def _checked_grouped(in_channels, out_channels, groups):
    return _grouped(*_channels(in_channels, out_channels, groups))


@lru_cache(maxsize=1024, typed=True)
def _checked_dense(in_channels, out_channels):
    return _dense(*_channels(in_channels, out_channels, 1)[:2])


@lru_cache(maxsize=1024)
def _sliding(in_channels, out_channels, groups, overlap):
    width = in_channels // groups
    shift = width - math.floor(overlap * width)
    starts = _frozen([filter_ * shift % in_channels for filter_ in range(out_channels)])
    cycle = in_channels // math.gcd(in_channels, shift)
    return ChannelWindows(in_channels, out_channels, groups, width, shift, cycle, starts)


@lru_cache(maxsize=1024)
def _grouped(in_channels, out_channels, groups):
    if out_channels % groups:
        below, above = out_channels // groups * groups, -(-out_channels // groups) * groups
        fits = " or ".join(str(c) for c in (below, above) if c)
        raise ValueError(
            f"groups={groups} does not divide out_channels={out_channels}: "
            f"the nearest that work are out_channels={fits}"
        )
    width = in_channels // groups
    per_group = out_channels // groups
    starts = _frozen([filter_ // per_group * width for filter_ in range(out_channels)])
    return ChannelWindows(in_channels, out_channels, groups, width, width, groups, starts)


@lru_cache(maxsize=1024)
def _dense(in_channels, out_channels):
    return ChannelWindows(in_channels, out_channels, 1, in_channels, 0, 1, _frozen([0] * out_channels))


def _frozen(values):
    array = np.array(values, dtype=np.int32)
    array.flags.writeable = False
    return array


def _cheapest_cuts(count, size, reads):
    """Cut range(count) into runs of at most ``size`` so that the rows read, plus a cost a tile, are fewest."""
    cost = [0] + [math.inf] * count
    begin_of = [0] * (count + 1)
    for end in range(1, count + 1):
        for begin in range(max(0, end - size), end):
            candidate = cost[begin] + reads(begin, end) + _TILE_COST
            if candidate < cost[end]:
                cost[end], begin_of[end] = candidate, begin
    cuts = []
    end = count
    while end:
        cuts.append((begin_of[end], end))
        end = begin_of[end]
    return cuts[::-1]


def _pack_tiles(destinations, sources, cuts, first, length, size):
    rows = np.full((len(cuts), size), -1, dtype=np.int32)
    for tile, (begin, end) in enumerate(cuts):
        rows[tile, : end - begin] = destinations[begin:end]
    overrun = max(0, max(f + n for f, n in zip(first, length)) - len(sources))
    panel = np.concatenate([sources, sources[:overrun]]).astype(np.int32)
    return Tiles(rows, panel, np.array(first, dtype=np.int32), np.array(length, dtype=np.int32))
