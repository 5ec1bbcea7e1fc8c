"""Ctrl-C, SIGTERM and a closed terminal as requests: the step under way is finished. A second one stops at once."""

from __future__ import annotations

import os
import signal
import threading

from sccengine.training.errors import Interrupted

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows lacks the last
# A first step may wait for its kernels, of which nothing here knows.
_NOTICE = (
    b"\nfinishing the step under way, or first compiling its kernels, then saving; press Ctrl-C again to stop at once\n"
)


class Interruption:
    """A context manager that catches the signals; `requested` is the one that came (signal.Signals), or None.

    With `at_once` the first one raises Interrupted, as only the second does otherwise: for work without steps.
    Python delivers signals to the main thread only: in another thread nothing is caught and nothing requested.
    """

    def __init__(self, at_once=False):
        self.at_once = at_once
        self.requested = None
        self._previous = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)):
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *exception):
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _receive(self, number, frame):
        if self.at_once or self.requested is not None:
            raise Interrupted("stopped at once", signal.Signals(number))
        self.requested = signal.Signals(number)
        if number == signal.SIGINT:
            # Not print(): the signal may have come in the middle of one.
            os.write(2, _NOTICE)
