"""Layer: what certificates need to know of a layer with weights: its settings, operands, call, and definition."""

from __future__ import annotations

from dataclasses import dataclass

import sccengine.functional as F
from sccengine import nn
from sccengine.certify import definition
from sccengine.windows import ChannelWindows, exact_overlap


@dataclass(frozen=True)
class Layer:
    """`operator` is "scc", "conv2d", "linear" or "batch_norm"; `settings` are plain values, those of its nn layer."""

    operator: str
    settings: dict

    @classmethod
    def scc(cls, in_channels, out_channels, groups=2, overlap=0.5, stride=(1, 1), bias=True):
        """A sliding-channel convolution. Raises ValueError or TypeError as nn.SCC does."""
        ChannelWindows.sliding(in_channels, out_channels, groups, overlap)
        settings = {"in_channels": in_channels, "out_channels": out_channels, "groups": groups}
        return cls("scc", {**settings, "overlap": str(exact_overlap(overlap)), "stride": list(stride), "bias": bias})

    @classmethod
    def of(cls, module):
        """The Layer of an nn.Module, or None where it is none with weights."""
        if isinstance(module, nn.SCC):
            sizes = module.in_channels, module.out_channels, module.groups
            return cls.scc(*sizes, module.overlap, module.stride, module.bias is not None)
        if isinstance(module, nn.Conv2d):
            names = ("in_channels", "out_channels", "groups")
            settings = {name: getattr(module, name) for name in names}
            settings |= {name: list(getattr(module, name)) for name in ("kernel_size", "stride", "padding")}
            return cls("conv2d", {**settings, "bias": module.bias is not None})
        if isinstance(module, nn.Linear):
            settings = {"in_channels": module.in_features, "out_channels": module.out_features}
            return cls("linear", {**settings, "bias": module.bias is not None})
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            return cls("batch_norm", {"in_channels": module.num_features, "relu": module.relu})
        return None

    def __str__(self):
        shown = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        return f"{self.operator} ({shown})"

    def windows(self):
        """The ChannelWindows that its kernels are given; None where it is no contraction over channel windows."""
        s = self.settings
        if self.operator == "scc":
            return ChannelWindows.sliding(s["in_channels"], s["out_channels"], s["groups"], s["overlap"])
        if self.operator == "linear":
            return ChannelWindows.dense(s["in_channels"], s["out_channels"])
        return ChannelWindows.grouped(s["in_channels"], s["out_channels"], s["groups"]) if self._pointwise() else None

    def table(self):
        """The same by definition: (O, K) channels, see definition.py."""
        s = self.settings
        if self.operator == "scc":
            return definition.sliding(s["in_channels"], s["out_channels"], s["groups"], s["overlap"])
        return definition.grouped(s["in_channels"], s["out_channels"], s.get("groups", 1))

    def shapes(self, batch, side):
        """Shapes of x, of weight and, if it has one, of bias."""
        s = self.settings
        channels = s["in_channels"]
        x = (batch, channels) if self.operator == "linear" else (batch, channels, side, side)
        if self.operator == "batch_norm":
            return [x, (channels,), (channels,)]
        weight = (s["out_channels"], channels // s.get("groups", 1), *s.get("kernel_size", ()))
        return [x, weight, (s["out_channels"],)][: 2 + s["bias"]]

    def call(self, x, weight, bias=None, variant="auto"):
        """The layer's output, a Tensor; `variant` is for "scc"."""
        s = self.settings
        if self.operator == "scc":
            settings = {"groups": s["groups"], "overlap": s["overlap"], "stride": tuple(s["stride"])}
            return F.scc(x, weight, bias, **settings, variant=variant)
        if self.operator == "conv2d":
            places = {name: tuple(s[name]) for name in ("stride", "padding")}
            return F.conv2d(x, weight, bias, **places, groups=s["groups"])
        if self.operator == "linear":
            return F.linear(x, weight, bias)
        return F.batch_norm(x, None, None, weight, bias, training=True, relu=s["relu"])

    def _pointwise(self):
        s = self.settings
        if self.operator != "conv2d" or s["groups"] == s["in_channels"]:
            return False
        return s["kernel_size"] == [1, 1] and s["padding"] == [0, 0]


def layers_of(model):
    """[(Layer, [names of the modules that are such a layer])] of a model, each distinct one once, in order."""
    found = {}
    for name, module in model.named_modules():
        layer = Layer.of(module)
        if layer is not None:
            found.setdefault(str(layer), (layer, []))[1].append(name)
    return list(found.values())
