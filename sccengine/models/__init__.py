"""Models by name, and what they cost: ``build("dscnet", scheme="dw+scc")`` and ``summarize(model, (3, 32, 32))``.

A model is a class in its own file with the arguments of ``build``; MODELS is the list that the command line shows.
Parameters and MACs of VGG, ResNet and MobileNet are those of the SCC paper's published code.
"""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache, partial

from sccengine import backend
from sccengine.models.dscnet import DSCNet
from sccengine.models.mobilenet import MobileNet
from sccengine.models.parts import check_image_size
from sccengine.models.resnet import ResNet
from sccengine.models.schemes import SCHEMES, SYMBOLS, USES
from sccengine.models.settings import STEMS, Settings, setting_text
from sccengine.models.summary import Summary, summarize
from sccengine.models.vgg import VGG

__all__ = [
    "MODELS",
    "SCHEMES",
    "STEMS",
    "SYMBOLS",
    "USES",
    "VGG",
    "DSCNet",
    "MobileNet",
    "ResNet",
    "Settings",
    "Summary",
    "build",
    "check_image_size",
    "mixing_layers",
    "setting_text",
    "summarize",
]

MODELS = {
    "dscnet": DSCNet,
    "mobilenet": MobileNet,
    **{f"resnet{depth}": partial(ResNet, depth) for depth in (18, 34, 50)},
    **{f"vgg{depth}": partial(VGG, depth) for depth in (11, 13, 16, 19)},
}


def build(name, **settings):
    """A freshly initialised model: (N, in_channels, H, W) -> logits (N, num_classes).

    name       one of MODELS
    settings   scheme="dw+scc", groups=2, overlap=0.5, in_channels=3, num_classes=10, width=1.0, stem="cifar", as
               settings.Settings says; groups and overlap may be sequences with a value for each of `mixing_layers`

    The stem is never replaced. A layer with fewer channels than groups is built with groups=1, as ``summarize`` shows.

    Raises ValueError or TypeError that names the setting and what would be right.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; choose from {', '.join(map(repr, MODELS))}")
    known = [setting.name for setting in fields(Settings) if setting.init]
    if unknown := [setting for setting in settings if setting not in known]:
        raise TypeError(f"build: unknown setting {unknown[0]!r}; choose from {', '.join(known)}")
    return MODELS[name](**settings)


@lru_cache(maxsize=256)
def mixing_layers(name, width=1.0, stem="cifar"):
    """The layers that a scheme puts in the place of 3x3 convolutions, in the order in which they run.

    A tuple of (name of the layer in the model, input channels, output channels): as many as per-layer settings have.
    """
    random = backend.random_state()
    model = build(name, scheme="dw+pw", width=width, stem=stem)
    backend.set_random_state(random)
    layers = [(path, layer) for path, layer in model.named_modules() if path.endswith(".mix")]
    return tuple((path, layer.in_channels, layer.out_channels) for path, layer in layers)
