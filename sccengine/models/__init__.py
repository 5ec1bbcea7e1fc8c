"""Models by name, and what they cost: ``build("dscnet", scheme="dw+scc")`` and ``summarize(model, (3, 32, 32))``.

A model is a class in its own file with the arguments of ``build``; MODELS is the list that the command line shows.
Parameters and MACs of VGG, ResNet and MobileNet are those of the SCC paper's published code.
"""

from __future__ import annotations

import math
from functools import partial
from numbers import Integral, Real

from .dscnet import DSCNet
from .mobilenet import MobileNet
from .parts import STEMS, check_image_size, check_stem
from .resnet import ResNet
from .schemes import SCHEMES, check_scheme
from .summary import Summary, summarize
from .vgg import VGG

__all__ = [
    "MODELS",
    "SCHEMES",
    "STEMS",
    "VGG",
    "DSCNet",
    "MobileNet",
    "ResNet",
    "Summary",
    "build",
    "check_image_size",
    "summarize",
]

MODELS = {
    "dscnet": DSCNet,
    "mobilenet": MobileNet,
    **{f"resnet{depth}": partial(ResNet, depth) for depth in (18, 34, 50)},
    **{f"vgg{depth}": partial(VGG, depth) for depth in (11, 13, 16, 19)},
}


def build(name, *, scheme="dw+scc", groups=2, overlap=0.5, in_channels=3, num_classes=10, width=1.0, stem="cifar"):
    """A freshly initialised model: (N, in_channels, H, W) -> logits (N, num_classes).

    name      one of MODELS
    scheme    one of SCHEMES: what replaces a k x k convolution (schemes.py)
    groups    channel groups cg: a filter reads C / cg channels; used by the grouped and sliding schemes
    overlap   overlap ratio co of neighbouring windows, 0 <= co < 1; used by the sliding scheme
    width     multiplies every layer's number of channels, to multiples of 8 (parts.scaled)
    stem      "cifar" for small images, "imagenet" for large ones: the first layers then divide the image's sides by 4
              (ResNet: 7x7 convolution, max pool) or 2 (MobileNet, DSCNet: stride 2); VGG's are the same for both

    The stem is never replaced. A layer with fewer channels than groups is built with groups=1, as ``summarize`` shows.

    Raises ValueError or TypeError that names the setting and what would be right.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; choose from {', '.join(map(repr, MODELS))}")
    check_scheme(scheme)
    check_stem(stem)
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
        scheme=scheme,
        groups=groups,
        overlap=overlap,
        in_channels=in_channels,
        num_classes=num_classes,
        width=width,
        stem=stem,
    )
