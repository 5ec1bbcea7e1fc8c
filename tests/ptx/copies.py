"""Asynchronous copies to shared memory: they land when their group is waited for, and are NaN there until then."""

from typing import NamedTuple

import numpy as np


class Copy(NamedTuple):
    """Begun together by some threads: one number or column for each."""

    threads: np.ndarray
    groups: np.ndarray  # how many groups its thread had committed before
    places: np.ndarray  # in shared memory
    words: np.ndarray  # (words, threads)

    def of(self, chosen):
        return Copy(self.threads[chosen], self.groups[chosen], self.places[chosen], self.words[:, chosen])


class Copies:
    """Those under way in some blocks. To memory.py a copy writes twice: when it begins and when it lands."""

    def __init__(self, blocks):
        self._blocks = blocks
        self._committed = np.zeros(blocks.count, np.int64)  # groups of each thread
        self._under_way = []

    def begin(self, threads, places, words):
        copy = Copy(threads, self._committed[threads], places, words)
        self._write(copy._replace(words=np.full_like(words, 0xFFFFFFFF)))
        self._under_way.append(copy)

    def commit(self, lanes):
        self._committed[lanes] += 1

    def wait(self, lanes, newest):
        """Lets all but the `newest` groups of each thread land."""
        oldest = np.zeros(self._blocks.count, np.int64)  # group that stays under way
        oldest[lanes] = self._committed[lanes] - newest
        before, self._under_way = self._under_way, []
        for copy in before:
            lands = copy.groups < oldest[copy.threads]
            self._write(copy.of(lands))
            if not lands.all():
                self._under_way.append(copy.of(~lands))

    def _write(self, copy):
        threads, moments = self._blocks.thread[copy.threads], self._blocks.moment[copy.threads]
        self._blocks.shared.store(copy.places, list(copy.words), threads, moments)
