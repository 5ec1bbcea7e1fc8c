"""The linear assignment problem: n channels to n places, the sum of gains as large as possible.

Shortest augmenting paths with potentials (Kuhn 1955, Munkres 1957; Jonker & Volgenant 1987). Places of equal gains are
one place with room for several, as in the transportation problem, and sliding windows have few different places: with
2 groups and overlap 0.5, sixteen. Then 512 channels take a tenth of a second; where all places differ, seconds.
"""

from __future__ import annotations

import numpy as np


def assign(gain):
    """The permutation p of largest sum over places j of gain[p[j], j]; gain (n, n) of finite numbers."""
    gain = np.asarray(gain, np.float64)
    if gain.ndim != 2 or gain.shape[0] != gain.shape[1] or not np.isfinite(gain).all():
        raise ValueError(f"assign: gain must be square and finite, got shape {gain.shape}")
    kinds, kind_of, room = np.unique(gain, axis=1, return_inverse=True, return_counts=True)
    taken = _transport(-kinds, room)
    permutation = np.empty(len(gain), np.int64)
    # Both in the order of the kinds: channels by the kind they got, places by the kind they are.
    permutation[np.argsort(kind_of.reshape(-1), kind="stable")] = np.argsort(taken, kind="stable")
    return permutation


def _transport(cost, room):
    """Kind of place (n,) of each row of cost (n, D), room[k] rows of kind k, at the least sum of costs."""
    rows, kinds = cost.shape
    taken = np.full(rows, -1)
    row_price, kind_price = np.zeros(rows), np.zeros(kinds)
    left = room.copy()
    for row in range(rows):
        shortest = cost[row] - kind_price
        before = np.full(kinds, row)  # the row that moves into a kind on the shortest path to it
        done = np.zeros(kinds, bool)
        while True:
            kind = int(np.argmin(np.where(done, np.inf, shortest)))
            if left[kind]:
                break
            done[kind] = True
            members = np.flatnonzero(taken == kind)
            onward = cost[members] - row_price[members, None]
            nearest = np.argmin(onward, axis=0)
            reached = shortest[kind] + onward[nearest, np.arange(kinds)] - kind_price
            shorter = ~done & (reached < shortest)
            shortest[shorter] = reached[shorter]
            before[shorter] = members[nearest[shorter]]
        # Prices that make every edge of the path free again, and none negative.
        saved = np.where(done, shortest[kind] - shortest, 0)
        kind_price -= saved
        moved = taken >= 0
        row_price[moved] += saved[taken[moved]]
        row_price[row] = shortest[kind]
        left[kind] -= 1
        while True:
            mover = before[kind]
            taken[mover], kind = kind, taken[mover]
            if mover == row:
                break
    return taken
