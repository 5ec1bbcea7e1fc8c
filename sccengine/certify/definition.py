"""Which triples (filter, tap, channel) a 1x1-family layer consists of, by its definition: own loops, not windows.py.

A set of triples is a sorted int64 array of codes, (filter * K + tap) * C + channel.
"""

from __future__ import annotations

import numpy as np

from sccengine.reference import scc_windows


def sliding(channels, filters, groups, overlap):
    """(O, K) int64: the channel of each tap of each filter of a sliding-channel convolution."""
    width, starts = scc_windows(channels, filters, groups, overlap)
    return np.array([[(start + tap) % channels for tap in range(width)] for start in starts], np.int64)


def grouped(channels, filters, groups):
    """The same of a grouped pointwise convolution; groups=1: of a pointwise one, or a linear layer."""
    width = channels // groups
    table = []
    for group in range(groups):
        taps = [group * width + tap for tap in range(width)]
        table += [taps] * (filters // groups)
    return np.array(table, np.int64)


def codes(table, channels):
    """The set of triples of an (O, K) table of channels."""
    filters, width = table.shape
    return np.sort(np.arange(filters * width) * channels + table.reshape(-1))


def decode(code, width, channels):
    """(filter, tap, channel) of one code."""
    rest, channel = divmod(int(code), channels)
    return (*divmod(rest, width), channel)


def first_difference(found, wanted, width, channels):
    """A sentence on the first triple that is in one of two sets and not in the other, or None."""
    apart = np.setxor1d(found, wanted)
    if not len(apart):
        return None
    filter_, tap, channel = decode(apart[0], width, channels)
    triple = f"(filter {filter_}, tap {tap}, channel {channel})"
    text = f"does not touch {triple}" if apart[0] in wanted else f"touches {triple}, which the definition does not"
    return f"{text}; {len(apart)} triples differ in all" if len(apart) > 1 else text
