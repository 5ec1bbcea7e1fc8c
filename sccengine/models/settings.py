"""The settings that all models share, checked once, and what follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real

from .schemes import DEFAULT_SCHEME, check_scheme, replacement

STEMS = ("cifar", "imagenet")
DEFAULT_STEM = "cifar"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a model is built; ValueError or TypeError that names the setting and what would be right.

    scheme    one of SCHEMES: what replaces a k x k convolution (schemes.py)
    groups    channel groups cg: a filter reads C / cg channels; used by the grouped and sliding schemes
    overlap   overlap ratio co of neighbouring windows, 0 <= co < 1; used by the sliding scheme
    width     multiplies every layer's number of channels, to multiples of 8 (`scaled`)
    stem      "cifar" for small images, "imagenet" for large ones: the first layers then divide the image's sides by 4
              (ResNet: 7x7 convolution, max pool) or 2 (MobileNet, DSCNet: stride 2); VGG's are the same for both
    """

    scheme: str = DEFAULT_SCHEME
    groups: int = 2
    overlap: float = 0.5
    in_channels: int = 3
    num_classes: int = 10
    width: float = 1.0
    stem: str = DEFAULT_STEM

    def __post_init__(self):
        check_scheme(self.scheme)
        if self.stem not in STEMS:
            raise ValueError(f"unknown stem {self.stem!r}; choose from {', '.join(map(repr, STEMS))}")
        for name in ("groups", "in_channels", "num_classes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral):
                raise TypeError(f"{name} must be a whole number, got {value!r}")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if isinstance(self.width, bool) or not isinstance(self.width, Real):
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

    def replacement(self, in_channels, out_channels, stride=1, *, norm=None, bias=True):
        """The layers in the place of a 3x3 convolution, see schemes.replacement."""
        return replacement(
            self.scheme,
            in_channels,
            out_channels,
            stride=stride,
            groups=self.groups,
            overlap=self.overlap,
            norm=norm,
            bias=bias,
        )
