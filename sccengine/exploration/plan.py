"""Plan: what a study searches, how, and how each design is trained; kept as settings.json, the same for all workers."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from sccengine.exploration.objectives import check_objectives, costs_among
from sccengine.exploration.space import Space
from sccengine.models.settings import DEFAULT_STEM
from sccengine.numeric import is_real, is_whole
from sccengine.training import RunDirectoryError
from sccengine.training.job import RECIPE, choose_rates

SAMPLERS = ("grid", "random", "nsga2", "tpe")
DEFAULT_EPOCHS = 20


@dataclass(frozen=True)
class Plan:
    """What decides which trials there will be and what becomes of them.

    space        the designs
    objectives   names, "accuracy" among them (objectives.py)
    sampler      one of SAMPLERS
    trials       how many designs are trained, stopped ones counted and rejected ones not; None: as many as there are
    options      the recipe: options of ``sccengine train`` by name, all but those of the design, seed and patience
    epochs       of each training
    seed         of the search, and of the first training of every trial, so that designs differ in nothing but
                 themselves
    seeds        trainings of every trial, with seed, seed + 1 and so on; its accuracy is their mean
    limits       cost -> the most of it that a design may have; others are rejected untrained
    ceiling      the accuracy, as a fraction, beyond which no design is believed to get; see rules.py
    early        whether training ends as soon as the front is out of reach (rules.py)

    Raises ValueError or TypeError that names the setting.
    """

    space: Space
    objectives: tuple[str, ...] = ("accuracy", "params")
    sampler: str = "random"
    trials: int | None = None
    options: dict = field(default_factory=dict)
    epochs: int = DEFAULT_EPOCHS
    seed: int = 0
    seeds: int = 1
    limits: dict = field(default_factory=dict)
    ceiling: float = 1.0
    early: bool = True

    def __post_init__(self):
        object.__setattr__(self, "objectives", check_objectives(self.objectives))
        if self.sampler not in SAMPLERS:
            raise ValueError(f"unknown sampler {self.sampler!r}; choose from {', '.join(SAMPLERS)}")
        for name in ("trials", "epochs", "seed", "seeds"):
            value = getattr(self, name)
            least = 0 if name == "seed" else 1
            if value is None and name == "trials":
                continue
            if not is_whole(value) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if not is_real(self.ceiling) or not 0 < self.ceiling <= 1:
            raise ValueError(f"ceiling must be a fraction above 0 and at most 1, got {self.ceiling!r}")
        for name in self.limits:
            if name not in self.costs:
                raise ValueError(f"limits: {name!r} is no cost among the objectives ({', '.join(self.costs)})")

    @property
    def costs(self):
        """The objectives that are known before training."""
        return costs_among(self.objectives)

    def run_options(self, trial):
        """The options with which ``sccengine train`` trains a trial."""
        settings = trial.design.as_dict()
        return {**self.options, **settings, "stem": self.space.stem, "seed": trial.seed, "patience": None}

    def command(self, design, seed=None):
        """The ``sccengine train`` line that trains a design as the study did; defaults of that verb are left out."""
        usual = {**RECIPE, **{name: self.options[name] for name in ("dataset", "optimizer")}}
        choose_rates(usual)
        recipe = {name: value for name, value in self.options.items() if usual[name] != value}
        if self.space.stem != DEFAULT_STEM:
            recipe["stem"] = self.space.stem
        return design.command(self.seed if seed is None else seed, self.epochs, self.options["dataset"], recipe)

    def as_dict(self):
        """Plain JSON values."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**values, "space": self.space.as_dict(), "objectives": list(self.objectives)}

    @classmethod
    def from_dict(cls, values, source="settings"):
        """The plan that ``as_dict`` described. Raises RunDirectoryError that names `source` where it describes none."""
        try:
            return cls(**{**values, "space": Space.from_dict(values["space"])})
        except KeyError as error:
            raise RunDirectoryError(f"{source} does not describe an exploration: it has no {error.args[0]}") from error
        except (TypeError, ValueError) as error:
            raise RunDirectoryError(f"{source} does not describe an exploration ({error})") from error
