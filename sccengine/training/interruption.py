"""Ctrl-C, SIGTERM and a closed terminal as requests: the step under way is finished. A second Ctrl-C stops at once."""

from __future__ import annotations

import os
import signal
import threading

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows lacks the last
_NOTICE = b"\nfinishing the step under way, then saving; press Ctrl-C again to stop at once\n"


class Interruption:
    """A context manager that catches the signals; `requested` is the name of the one that came, or None.

    Python delivers signals to the main thread only: in another thread nothing is caught and nothing requested.
    """

    def __init__(self):
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
        if self.requested is not None:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name
        if number == signal.SIGINT:
            # Not print(): the signal may have come in the middle of one.
            os.write(2, _NOTICE)
