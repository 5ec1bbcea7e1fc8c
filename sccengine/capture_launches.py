"""The launches of a step that is captured on the CPU: noted instead of carried out, then carried out again and again.

A launch is the call of a launcher: ``launches.scc.forward(x, ...)`` notes what ``kernels.cpu.scc.forward`` is to do
with these arrays and numbers. A replay calls the launchers, so they may use NumPy and look at their arrays.
"""

from __future__ import annotations

from types import FunctionType

import numpy as np

from sccengine import backend, memory

#: The functions of a stem that answer at once and launch nothing.
QUESTIONS = frozenset({"choose", "problem"})


class Launches:
    """In place of the kernel package (``backend.kernels_for``) while a step is being captured."""

    def __init__(self):
        self._noted = []

    def __getattr__(self, stem):
        if stem.startswith("_"):
            raise AttributeError(stem)
        return self.__dict__.setdefault(stem, _Stem(getattr(backend.kernel_package("cpu"), stem), self._noted))

    def note(self, fn):
        """A function without arguments that is called at this place of every replay."""
        self._noted.append((fn, (), {}))

    def replay(self):
        """Carry out all launches, on the memory that they were noted with."""
        for launcher, args, settings in self._noted:
            launcher(*args, **settings)


class _Stem:
    """The launchers of one operator; everything else is the operator's own."""

    def __init__(self, module, noted):
        self._module = module
        self._noted = noted

    def __getattr__(self, name):
        value = getattr(self._module, name)
        if not isinstance(value, FunctionType) or name in QUESTIONS:
            return value

        def note(*args, **settings):
            settings = {key: _lasting(setting) for key, setting in settings.items()}
            self._noted.append((value, [_lasting(argument) for argument in args], settings))

        return note


def _lasting(argument):
    """An argument whose arrays do not keep their memory from being handed out again within the step."""
    if isinstance(argument, np.ndarray):
        return memory.lasting(argument)
    if type(argument) in (list, tuple):
        return type(argument)(_lasting(item) for item in argument)
    return argument
