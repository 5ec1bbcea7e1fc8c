"""Models by name, and what they cost: ``build("dscnet", scheme="dw+scc")`` and ``summarize(model, (3, 32, 32))``.

A model is a class in its own file with the arguments of ``build``; MODELS is the list that the command line shows.
"""

from __future__ import annotations

import math
from numbers import Integral, Real

from .dscnet import DSCNet
from .schemes import SCHEMES, check_scheme
from .summary import Summary, summarize

__all__ = ["MODELS", "SCHEMES", "DSCNet", "Summary", "build", "summarize"]

MODELS = {"dscnet": DSCNet}


def build(name, *, scheme="dw+scc", groups=2, overlap=0.5, in_channels=3, num_classes=10, width=1.0):
    """A freshly initialised model: (N, in_channels, H, W) -> logits (N, num_classes).

    name      one of MODELS
    scheme    one of SCHEMES: what replaces a k x k convolution (schemes.py)
    groups    channel groups cg: a filter reads C / cg channels; used by the grouped and sliding schemes
    overlap   overlap ratio co of neighbouring windows, 0 <= co < 1; used by the sliding scheme
    width     multiplies every layer's number of channels

    Raises ValueError or TypeError that names the setting and what would be right.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; choose from {', '.join(map(repr, MODELS))}")
    check_scheme(scheme)
    counts = {"groups": groups, "in_channels": in_channels, "num_classes": num_classes}
    for setting, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise TypeError(f"build: {setting} must be a whole number, got {value!r}")
        if value < 1:
            raise ValueError(f"build: {setting} must be at least 1, got {value}")
    if isinstance(width, bool) or not isinstance(width, Real):
        raise TypeError(f"build: width must be a number, got {width!r}")
    if not (width > 0 and math.isfinite(width)):
        raise ValueError(f"build: width must be a finite number above 0, got {width}")
    return MODELS[name](
        scheme=scheme, groups=groups, overlap=overlap, in_channels=in_channels, num_classes=num_classes, width=width
    )
