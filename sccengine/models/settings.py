"""The settings that all models share, checked once, and the layers that follow from them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sccengine import nn
from sccengine.models.schemes import DEFAULT_SCHEME, check_scheme, replacement
from sccengine.numeric import is_real, is_whole

STEMS = ("cifar", "imagenet")
DEFAULT_STEM = "cifar"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a model is built; ValueError or TypeError that names the setting and what would be right.

    scheme    one of SCHEMES: what replaces a k x k convolution (schemes.py)
    groups    channel groups cg: a filter reads C / cg channels; used by the grouped and sliding schemes
    overlap   overlap ratio co of neighbouring windows, 0 <= co < 1; used by the sliding scheme
              Either may be a sequence with a value for each replaced convolution, in the order of the network.
    width     multiplies every layer's number of channels, to multiples of 8 (`scaled`)
    stem      "cifar" for small images, "imagenet" for large ones: the first layers then divide the image's sides by 4
              (ResNet: 7x7 convolution, max pool) or 2 (MobileNet, DSCNet: stride 2); VGG's are the same for both
    """

    scheme: str = DEFAULT_SCHEME
    groups: int | tuple[int, ...] = 2
    overlap: float | tuple[float, ...] = 0.5
    in_channels: int = 3
    num_classes: int = 10
    width: float = 1.0
    stem: str = DEFAULT_STEM

    def __post_init__(self):
        check_scheme(self.scheme)
        if self.stem not in STEMS:
            raise ValueError(f"unknown stem {self.stem!r}; choose from {', '.join(map(repr, STEMS))}")
        for name in ("groups", "overlap"):
            value = getattr(self, name)
            if isinstance(value, (list, tuple)):
                if not value:
                    raise ValueError(f"{name} must be a value, or one for each replaced convolution, got {value!r}")
                object.__setattr__(self, name, tuple(value))
        groups = self.groups if isinstance(self.groups, tuple) else (self.groups,)
        whole = [("groups", cg) for cg in groups]
        for name, value in [*whole, ("in_channels", self.in_channels), ("num_classes", self.num_classes)]:
            if not is_whole(value):
                raise TypeError(f"{name} must be a whole number, got {value!r}")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not is_real(self.width):
            raise TypeError(f"width must be a number, got {self.width!r}")
        if not (self.width > 0 and math.isfinite(self.width)):
            raise ValueError(f"width must be a finite number above 0, got {self.width}")

    def scaled(self, channels):
        """`channels` times the width, to the nearest multiple of 8; below 8, to the nearest of 1, 2, 4, 8.

        So that groups of 2, 4 and 8 go on dividing the channels of every layer that is wide enough for them.
        """
        wanted = channels * self.width
        if wanted >= 8:
            return 8 * round(wanted / 8)
        return min((1, 2, 4, 8), key=lambda power: abs(power - wanted))


class Builder:
    """The layers of one model that depend on its Settings. Where groups and overlap are sequences, each `replacement`
    takes the next value, and `head` sees that all were taken."""

    def __init__(self, settings):
        self.settings = settings
        self.replaced = 0

    def replacement(self, in_channels, out_channels, stride=1, *, norm=None, bias=True):
        """The layers in the place of the next 3x3 convolution, see schemes.replacement."""
        groups, overlap = (_at(value, self.replaced) for value in (self.settings.groups, self.settings.overlap))
        self.replaced += 1
        return replacement(
            self.settings.scheme,
            in_channels,
            out_channels,
            stride=stride,
            groups=groups,
            overlap=overlap,
            norm=norm,
            bias=bias,
        )

    def head(self, channels):
        """The last layer of a model: linear to the classes. ValueError if there were more or fewer layers than values
        of groups or overlap."""
        for name in ("groups", "overlap"):
            value = getattr(self.settings, name)
            if isinstance(value, tuple) and len(value) != self.replaced:
                raise ValueError(
                    f"{name} must be one value or {self.replaced}, one for each replaced convolution, "
                    f"got {len(value)}: {setting_text(value)}"
                )
        return nn.Linear(channels, self.settings.num_classes)


def setting_text(value):
    """groups or overlap as the command line takes them: "2", or "2,4,2" where each layer has its own."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _at(value, position):
    """The value for the layer at `position`; past the end the last one, as `head` is where the number is checked."""
    return value[min(position, len(value) - 1)] if isinstance(value, tuple) else value
