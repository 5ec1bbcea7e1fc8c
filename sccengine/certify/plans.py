"""The triples that the tables of tiles say, from which kernels read their windows: enumerated entry by entry.

What probes.py finds out from the kernels of this device, this reads off the plans, of every size that any kernel takes
on any device. A kernel that follows a table adds, for each of its rows and each entry of its stretch of the panel,

    filters in rows     weight[row, tap] * x[entry]     where tap = (entry - start[row]) mod C is below K
    channels in rows    weight[entry, tap] * dy[entry]  where tap = (row - start[entry]) mod C is below K
"""

from __future__ import annotations

import numpy as np

#: Rows of a tile, of the kernels of all devices.
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


def enumerate_plans(windows):
    """{"tiles of 8 filters": codes, ...}: what each table touches, an entry twice if it is touched twice."""
    found = {"windows": _listed(windows)}
    for size in SIZES:
        found[f"tiles of {size} filters"] = _enumerated(windows, windows.tiles(size), False)
        found[f"tiles of {size} channels"] = _enumerated(windows, windows.transposed_tiles(size), True)
    return found


def _listed(windows):
    taps = np.arange(windows.out_channels * windows.width) * windows.in_channels
    return np.sort(taps + windows.channels().reshape(-1).astype(np.int64))


def _enumerated(windows, tiles, transposed):
    channels, width = windows.in_channels, windows.width
    starts = windows.starts.astype(np.int64)
    parts = []
    for tile in range(tiles.count):
        rows = tiles.rows[tile].astype(np.int64)
        rows = rows[rows >= 0][:, None]
        first = tiles.first[tile]
        read = tiles.panel[first : first + tiles.length[tile]].astype(np.int64)[None, :]
        filters, channel = (read, rows) if transposed else (rows, read)
        taps = (channel - starts[filters]) % channels
        inside = taps < width
        parts.append(((filters * width + taps) * channels + channel)[inside])
    return np.sort(np.concatenate(parts))
