"""Random integers by address: (seed, purpose, epoch, batch) names a stream, whoever asks and whenever.

Built on Philox's raw 64-bit words, the one part of NumPy's random module whose bits are promised never to
change; permutations and ranges are derived here in integer arithmetic, so that a run's data order and
augmentation are the same bits on every machine and NumPy version, and a resumed run needs to remember only
where it was.
"""

from __future__ import annotations

import numpy as np

from sccengine import numeric

# What a stream is for: streams of different purposes never meet, even under one seed.
SPLIT, ORDER, AUGMENTATION, DRAWING, NOISE, EXPLORATION = range(6)


def check_seed(seed, owner):
    """`seed` as an int in [0, 2**64), or an error that names `owner`."""
    seed = numeric.whole(owner, "seed", seed, least=0)
    if seed >= 1 << 64:
        raise ValueError(f"{owner}: seed must be below 2**64, got {seed}")
    return seed


class Draws:
    """The stream at one address. Successive calls walk along it; the same address starts the same walk."""

    def __init__(self, seed, purpose, major=0, minor=0):
        # Philox counts upwards in the low words of its 256-bit counter: the address goes into the high ones.
        key = np.array([seed, purpose], np.uint64)
        counter = np.array([0, 0, minor, major], np.uint64)
        self._words = np.random.Philox(key=key, counter=counter)

    def words(self, count):
        """`count` random words, uint64 (count,)."""
        return self._words.random_raw(count).astype(np.uint64, copy=False)

    def integers(self, count, below):
        """`count` integers in [0, below), int64 (count,); `below` at most 2**32 (bias: below / 2**32)."""
        return ((self.words(count) >> np.uint64(32)) * np.uint64(below) >> np.uint64(32)).astype(np.int64)

    def chances(self, count, probability):
        """`count` coin tosses, True with `probability` (to within 2**-32), bool (count,)."""
        return self.integers(count, 1 << 32) < round(probability * (1 << 32))

    def permutation(self, count):
        """0 ... count - 1 in random order, int64 (count,)."""
        return np.argsort(self.words(count), kind="stable").astype(np.int64, copy=False)
