"""Space: the designs that a study may try, each of them valid and no two the same network.

Choices of model, scheme, width, groups and overlap; the last two for a whole network or, with `per_layer`, for each of
its mixing layers (``models.mixing_layers``) by itself. In a layer with C input channels,

* groups must divide C (a layer with C < groups would silently become pointwise);
* of overlaps that give the same windows, only the first is offered: floor(co * K) is what counts, and nothing where
  K = 1; with groups 1, where every window is all channels, the overlap is 0.0, as it is for schemes without one.

Samplers see `decisions`, names with options that never change, which suits every kind of them. `design` makes the
nearest valid design of any answers to them, so no invalid one is ever proposed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from itertools import product

from sccengine.data.counter import EXPLORATION, Draws
from sccengine.exploration.trial import Design
from sccengine.models import MODELS, SCHEMES, STEMS, USES, mixing_layers
from sccengine.models.settings import Settings
from sccengine.windows import ChannelWindows, exact_overlap

CHOICES = ("models", "schemes", "widths", "groups", "overlaps")


@dataclass(frozen=True)
class Space:
    """Choices, each a sequence; designs are their valid combinations.

    per_layer   whether each mixing layer has groups and overlap of its own
    stem        as models.build has it, the same for all designs

    Raises ValueError or TypeError that names the choice; also where no groups are valid in some layer of a model.
    """

    models: tuple[str, ...] = ("dscnet",)
    schemes: tuple[str, ...] = ("dw+scc",)
    widths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    groups: tuple[int, ...] = (1, 2, 4, 8)
    overlaps: tuple[float, ...] = (0.0, 0.25, 0.5)
    per_layer: bool = False
    stem: str = "cifar"

    def __post_init__(self):
        for name in CHOICES:
            values = getattr(self, name)
            if not isinstance(values, (list, tuple)):
                raise TypeError(f"{name} must be a sequence of choices, got {values!r}")
            if not values:
                raise ValueError(f"{name} must offer at least one choice")
            object.__setattr__(self, name, tuple(dict.fromkeys(values)))
        for name, asked, known in (
            ("models", self.models, MODELS),
            ("schemes", self.schemes, SCHEMES),
            ("stem", (self.stem,), STEMS),
        ):
            if unknown := [value for value in asked if value not in known]:
                raise ValueError(f"{name}: unknown {unknown[0]!r}; choose from {', '.join(known)}")
        for overlap in self.overlaps:
            exact_overlap(overlap)
        Settings(groups=self.groups)
        for width in self.widths:
            Settings(width=width)
        for network in self._networks():
            self._places(*network)

    def as_dict(self):
        """Plain JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values):
        """The space that ``as_dict`` described."""
        return cls(**values)

    @property
    def size(self):
        """How many designs there are."""
        total = 0
        for network in self._networks():
            designs = 1
            for place in self._places(*network):
                designs *= len(place.options)
            total += designs
        return total

    def grid(self):
        """All designs in order, the last layer's overlap varying fastest; lazy, as there may be very many."""
        for network in self._networks():
            for values in product(*(place.options for place in self._places(*network))):
                yield self._assemble(*network, values)

    @cached_property
    def decisions(self):
        """Name -> options (a tuple) of everything that a sampler decides, the same for all designs."""
        found = {"model": self.models, "scheme": self.schemes, "width": self.widths}
        layers = max(len(self._places(*network)) for network in self._networks())
        for i in range(layers):
            suffix = f"[{i}]" if self.per_layer else ""
            found |= {f"groups{suffix}": self.groups, f"overlap{suffix}": self.overlaps}
        return found

    def design(self, answers):
        """The Design nearest to `answers`, decision -> option.

        Groups that are not valid in a layer become the largest valid ones below them, or else the smallest; overlaps
        the first with the same windows; what the network has no use for is ignored.
        """
        network = answers["model"], answers["scheme"], answers["width"]
        values = []
        for i, place in enumerate(self._places(*network)):
            suffix = f"[{i}]" if self.per_layer else ""
            values.append(place.nearest(answers[f"groups{suffix}"], answers[f"overlap{suffix}"]))
        return self._assemble(*network, values)

    def answers(self, design):
        """The decisions that lead to `design`: ``space.design(space.answers(design)) == design``.

        A decision that it has no use for is answered by its first option.
        """
        found = {name: options[0] for name, options in self.decisions.items()}
        found |= {"model": design.model, "scheme": design.scheme, "width": design.width}
        for i in range(len(self._places(design.model, design.scheme, design.width))):
            suffix = f"[{i}]" if self.per_layer else ""
            for name, value in (("groups", design.groups), ("overlap", design.overlap)):
                one = value[i] if isinstance(value, tuple) else value
                if one in (self.groups if name == "groups" else self.overlaps):
                    found[f"{name}{suffix}"] = one
        return found

    def sample(self, seed, number):
        """Design number `number` of the random search with `seed`: every decision uniform among its options."""
        draws = Draws(seed, EXPLORATION, number)
        return self.design(
            {name: options[int(draws.integers(1, len(options))[0])] for name, options in self.decisions.items()}
        )

    def _networks(self):
        return product(self.models, self.schemes, self.widths)

    @lru_cache(maxsize=256)  # noqa: B019 - a space is a small value
    def _places(self, model, scheme, width):
        """The _Places of a network where groups and overlap are chosen: its layers, or all of them as one, or none."""
        if not USES[scheme]:
            return []
        layers = [(inputs, outputs) for _, inputs, outputs in mixing_layers(model, width, self.stem)]
        parts = [[layer] for layer in layers] if self.per_layer else [layers]
        places = [_Place(part, self.groups, self.overlaps, "overlap" in USES[scheme]) for part in parts]
        for i, place in enumerate(places):
            if not place.options:
                where = f"mixing layer {i}" if self.per_layer else "all mixing layers"
                channels = ", ".join(map(str, sorted({inputs for inputs, _ in place.layers})))
                raise ValueError(
                    f"groups: none of {', '.join(map(str, self.groups))} divides the input channels of {where} of "
                    f"{model} at width {width:g} ({channels}); offer others, or leave that width out"
                )
        return places

    def _assemble(self, model, scheme, width, values):
        if not values:
            return Design(model, scheme, width, 1, 0.0)
        groups, overlaps = zip(*values)
        return Design(model, scheme, width, groups, overlaps)


class _Place:
    """Layers that share one choice of (groups, overlap); `options` are those that differ, in order."""

    def __init__(self, layers, groups, overlaps, sliding):
        self.layers = layers
        self.groups = [cg for cg in groups if all(inputs % cg == 0 for inputs, _ in layers)]
        self.overlaps = overlaps if sliding else (0.0,)
        self.options = list(dict.fromkeys(self._distinct(cg, co) for cg in self.groups for co in self.overlaps))

    def nearest(self, groups, overlap):
        """The option for an answer."""
        below = [cg for cg in self.groups if cg <= groups]
        return self._distinct(max(below) if below else min(self.groups), overlap)

    def _distinct(self, cg, co):
        if cg == 1 or co not in self.overlaps:
            return cg, 0.0
        windows = self._windows(cg, co)
        return cg, next(one for one in self.overlaps if self._windows(cg, one) == windows)

    def _windows(self, cg, co):
        return [ChannelWindows.sliding(*layer, cg, co).shift for layer in self.layers]
