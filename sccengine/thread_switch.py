"""A switch that is on in a thread for as long as the thread is inside it, however often it entered."""

from __future__ import annotations

import contextlib
import threading


class _Depth(threading.local):
    entered = 0


class ThreadSwitch(contextlib.ContextDecorator):
    """Base of context managers and decorators; each subclass is a switch of its own, off at first."""

    def __init_subclass__(cls):
        cls._depth = _Depth()

    def __enter__(self):
        self._depth.entered += 1
        return self

    def __exit__(self, *exception):
        self._depth.entered -= 1

    @classmethod
    def is_on(cls):
        """Whether the current thread is inside."""
        return cls._depth.entered > 0
