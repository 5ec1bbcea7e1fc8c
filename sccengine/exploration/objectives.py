"""What designs are compared by. Accuracy comes from training; everything else is a cost, known before it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Objective:
    """`direction` is "maximize" or "minimize"; `unit` is that of values, `shown_unit` that of `shown` and `text`."""

    name: str
    direction: str
    unit: str
    label: str

    @property
    def shown_unit(self):
        """The unit in which people read it."""
        return _SHOWN.get(self.unit, (self.unit, 1))[0]

    def shown(self, value):
        """A value as a number of `shown_unit`."""
        return value * _SHOWN.get(self.unit, (self.unit, 1))[1]

    def text(self, value):
        """A value with its unit: "97.21%", "3.07 ms", "4,746 parameters"."""
        if self.unit in _SHOWN:
            return f"{self.shown(value):.2f}{'' if self.unit == 'fraction' else ' '}{self.shown_unit}"
        return f"{value:,} {self.unit}"


_SHOWN = {"fraction": ("%", 100), "seconds": ("ms", 1e3), "bytes": ("MiB", 2**-20)}


OBJECTIVES = {
    objective.name: objective
    for objective in (
        Objective("accuracy", "maximize", "fraction", "test accuracy after the last epoch"),
        Objective("params", "minimize", "parameters", "parameters"),
        Objective("macs", "minimize", "MACs", "multiply-accumulates of one image"),
        Objective("latency", "minimize", "seconds", "time of a training step of one batch"),
        Objective("memory", "minimize", "bytes", "peak memory of a training step of one batch"),
    )
}


def check_objectives(names):
    """The names as a tuple; ValueError that lists what there is, TypeError for one text instead of several."""
    if isinstance(names, str):
        raise TypeError(f"objectives must be a sequence of names, got the text {names!r}")
    names = tuple(names)
    for name in names:
        if name not in OBJECTIVES:
            raise ValueError(f"unknown objective {name!r}; choose from {', '.join(OBJECTIVES)}")
    if len(set(names)) != len(names):
        raise ValueError(f"objectives must differ, got {', '.join(names)}")
    if "accuracy" not in names or len(names) < 2:
        raise ValueError(f"objectives must be accuracy and at least one cost, got {', '.join(names) or 'none'}")
    return names


def costs_among(names):
    """The objectives that are known before training."""
    return tuple(name for name in names if name != "accuracy")
