"""A design, which is what is searched for, and a trial, which is what became of it. Plain values, ready for JSON."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, field, fields, replace
from statistics import fmean, stdev

from sccengine.models import SYMBOLS, USES, setting_text

STATES = ("waiting", "running", "finished", "stopped", "rejected", "failed")
OVER = ("finished", "stopped", "rejected", "failed")  # states that no trial leaves


@dataclass(frozen=True)
class Design:
    """A network: what ``models.build`` needs to know of it. Hashable; equal designs are the same network.

    groups    channel groups cg, or a tuple with one for each of ``models.mixing_layers``
    overlap   overlap co, or a tuple likewise; groups 1 and overlap 0.0 where the scheme has no such thing
              A tuple of one value over and over becomes that value.
    """

    model: str = "dscnet"
    scheme: str = "dw+scc"
    width: float = 1.0
    groups: int | tuple[int, ...] = 2
    overlap: float | tuple[float, ...] = 0.5

    def __post_init__(self):
        for name in ("groups", "overlap"):
            value = getattr(self, name)
            if isinstance(value, (list, tuple)):
                object.__setattr__(self, name, tuple(value) if len(set(value)) > 1 else value[0])

    @property
    def settings(self):
        """The arguments of models.build beside the name, those of the images left out."""
        return {"scheme": self.scheme, "groups": self.groups, "overlap": self.overlap, "width": self.width}

    @property
    def name(self):
        """For people: ``dscnet x0.5 dw+scc (cg 2,4,2; co 0.5)``."""
        text = f"{self.model} x{self.width:g} {self.scheme}"
        used = "; ".join(f"{symbol} {value}" for symbol, value in self._used())
        return f"{text} ({used})" if used else text

    @property
    def slug(self):
        """For paths."""
        text = f"{self.model}-w{self.width:g}-{self.scheme}"
        return "-".join([text, *(symbol + value for symbol, value in self._used())]).replace(",", "_")

    def _used(self):
        """The settings of its scheme: ("cg", "2,4,2"), ("co", "0.5")."""
        return [(SYMBOLS[name], setting_text(getattr(self, name))) for name in USES[self.scheme]]

    def as_dict(self):
        """Plain JSON values: tuples as lists."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values):
        """The design that ``as_dict`` described; ValueError where `values` describe none."""
        return cls(**_known(cls, values))

    def command(self, seed=0, epochs=None, dataset="digits", recipe=None):
        """The ``sccengine train`` line that trains it; recipe: more options by name, as ``sccengine train`` has them.

        Options that are None are left out; True and False become --name and --no-name.
        """
        design = {"model": self.model, "scheme": self.scheme, "width": f"{self.width:g}"}
        design |= {"groups": setting_text(self.groups), "overlap": setting_text(self.overlap)}
        options = {**design, "dataset": dataset, "epochs": epochs, "seed": seed, **(recipe or {})}
        words = ["sccengine", "train"]
        for name, value in options.items():
            option = name.replace("_", "-")
            if value is True or value is False:
                words.append(f"--{option}" if value else f"--no-{option}")
            elif value is not None:
                words += [f"--{option}", str(value)]
        return shlex.join(words)


@dataclass(frozen=True)
class Trial:
    """One design of a study, and what became of it.

    state     "waiting", "running", or how it ended: "finished" (trained for all epochs), "stopped" (training ended
              early, as it could no longer reach the front), "rejected" (its costs alone showed that; never trained),
              "failed" (`error` says how)
    values    objective -> number. Costs from the beginning; "accuracy" (as a fraction) only where there was an epoch:
              that of the last epoch of a training, the mean where there are several; see worker.py for unfinished ones
    seed      of weights, order and variation of the images in the first training, the next ones in those after it;
              with design, recipe and epochs they decide the result
    epochs    done so far, of all trainings together;  seconds: the time they took
    curves    for each training, the test accuracy after each of its epochs
    worker    the process that has it or had it last, "process 4711 on host"
    reason    why it was stopped or rejected;  error: what it failed with
    """

    number: int
    design: Design
    state: str = "waiting"
    values: dict = field(default_factory=dict)
    seed: int = 0
    epochs: int = 0
    seconds: float = 0.0
    worker: str | None = None
    reason: str | None = None
    error: str | None = None
    curves: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self):
        if self.state not in STATES:
            raise ValueError(f"trial {self.number}: state must be one of {', '.join(STATES)}, got {self.state!r}")
        object.__setattr__(self, "curves", tuple(map(tuple, self.curves)))

    @property
    def over(self):
        """Whether it has ended, in whatever way."""
        return self.state in OVER

    @property
    def curve(self):
        """The test accuracy by epoch: the mean of the trainings that came so far."""
        longest = max(map(len, self.curves), default=0)
        return tuple(fmean(curve[i] for curve in self.curves if i < len(curve)) for i in range(longest))

    @property
    def spread(self):
        """The sample standard deviation of the accuracies of a finished trial's trainings; None for fewer than two."""
        ends = [curve[-1] for curve in self.curves if curve]
        return stdev(ends) if self.state == "finished" and len(ends) > 1 else None

    def text(self, objective):
        """The value of an Objective with its unit, accuracies with their spread: "97.21 ± 0.32%", "4,746 MACs"."""
        value = self.values[objective.name]
        if objective.name != "accuracy" or self.spread is None:
            return objective.text(value)
        return f"{objective.shown(value):.2f} ± {objective.shown(self.spread):.2f}{objective.shown_unit}"

    def changed(self, **values):
        """A copy with other values."""
        return replace(self, **values)

    def as_dict(self):
        """Plain JSON values."""
        return {**asdict(self), "design": self.design.as_dict(), "curves": list(map(list, self.curves))}

    @classmethod
    def from_dict(cls, values):
        """The trial that ``as_dict`` described; ValueError where `values` describe none."""
        values = _known(cls, values)
        return cls(**{**values, "design": Design.from_dict(values["design"])})


def _known(cls, values):
    """`values` if it is an object with fields of `cls` only."""
    names = {one.name for one in fields(cls)}
    if not isinstance(values, dict) or not set(values) <= names or (cls is Trial and "design" not in values):
        raise ValueError(f"expected an object with {', '.join(sorted(names))}, got {values!r}")
    return values
