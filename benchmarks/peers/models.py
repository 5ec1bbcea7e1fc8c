"""The engine's models in PyTorch, by the published descriptions, with the state-dict keys of sccengine.models.

The first three are written from the channel lists of the CIFAR models that the SCC paper's code builds on, none from
the engine's files, so that counts and outputs can be compared.

    build("vgg16", "dw+scc", groups=2, channels=channels)

``channels`` (in, out) -> (O, K) says which channels an SCC layer reads; ``expression`` how it is computed (pytorch.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import AdaptiveAvgPool2d, BatchNorm2d, ChannelShuffle, Conv2d, Flatten, Linear, MaxPool2d, Sequential
from torch.nn.functional import cross_entropy

from peers.pytorch import SCC, NormReLU, numpy, tensor
from sccengine.bench.case import Candidate
from sccengine.bench.networks import GROUPS, OVERLAP
from sccengine.windows import ChannelWindows

VGG = {
    "vgg11": "64 M 128 M 256 256 M 512 512 M 512 512 M",
    "vgg13": "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    "vgg16": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    "vgg19": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}
RESNET = {"resnet18": (1, 2, 2, 2, 2), "resnet34": (1, 3, 4, 6, 3), "resnet50": (4, 3, 4, 6, 3)}  # expansion, blocks
SEPARABLE = {  # the stem's channels, then each block's, with its stride
    "mobilenet": "32 64 128/2 128 256/2 256 512/2 512 512 512 512 512 1024/2 1024",
    "dscnet": "32 32 64/2 128/2",
}


@dataclass(frozen=True)
class Scheme:
    """What replaces a 3x3 convolution, as in the published models."""

    name: str
    groups: int
    channels: Callable
    expression: str
    device: str

    def layers(self, c, o, stride=1, *, bias, norm=False):
        """(name, layer) pairs; ``bias``: of a dense convolution; ``norm``: whether one follows the depthwise stage."""
        if self.name == "standard":
            return [("conv", Conv2d(c, o, 3, stride, 1, bias=bias))]
        layers = [("depthwise", Conv2d(c, c, 3, stride, 1, groups=c))]
        if norm:
            layers.append(("depthwise_norm", NormReLU(c)))
        groups = self.groups if "gpw" in self.name and c >= self.groups else 1
        if self.name == "dw+scc":
            layers.append(("mix", SCC(self.channels(c, o), c, self.expression, self.device)))
        else:
            layers.append(("mix", Conv2d(c, o, 1, groups=groups)))
        if self.name == "dw+gpw+shuffle":
            layers.append(("shuffle", ChannelShuffle(groups)))
        return layers


class Residual(torch.nn.Module):
    def __init__(self, body, c, o, stride):
        super().__init__()
        self.body = named(*body)
        self.norm = BatchNorm2d(o)
        if stride != 1 or c != o:
            self.shortcut = named(("conv", Conv2d(c, o, 1, stride, bias=False)), ("norm", BatchNorm2d(o)))
        else:
            self.shortcut = torch.nn.Identity()

    def forward(self, x):
        return torch.relu_(self.norm(self.body(x)).add_(self.shortcut(x)))


def named(*layers):
    return Sequential(OrderedDict(layers))


def conv_norm(c, o, kernel, stride=1, bias=False, more=()):
    conv = Conv2d(c, o, kernel, stride, kernel // 2, bias=bias)
    return named(("conv", conv), ("norm", NormReLU(o)), *more)


def network(stem, body_name, body, features, num_classes):
    pool, head = Sequential(AdaptiveAvgPool2d(1), Flatten()), Linear(features, num_classes)
    return named(("stem", stem), (body_name, Sequential(*body)), ("pool", pool), ("head", head))


def build_vgg(layout, scheme, in_channels, num_classes, scale, stem):
    first, *layout = layout.split()
    c = scale(int(first))
    stem = conv_norm(in_channels, c, 3, bias=True)
    stages, stage = [], []
    for entry in layout:
        if entry == "M":
            stages.append(named(*stage, ("pool", MaxPool2d(2, 2))))
            stage = []
            continue
        o = scale(int(entry))
        stage.append((str(len(stage)), named(*scheme.layers(c, o, bias=True), ("norm", NormReLU(o)))))
        c = o
    return network(stem, "stages", stages, c, num_classes)


def build_resnet(layout, scheme, in_channels, num_classes, scale, stem):
    expansion, *numbers = layout
    c = scale(64)
    if stem == "imagenet":
        stem = conv_norm(in_channels, c, 7, 2, more=[("pool", MaxPool2d(3, 2, 1))])
    else:
        stem = conv_norm(in_channels, c, 3)
    stages = []
    for index, number in enumerate(numbers):
        planes, stage = scale(64 * 2**index), []
        for stride in [1 if index == 0 else 2] + [1] * (number - 1):
            if expansion == 1:
                body = [("first", conv_norm(c, planes, 3, stride)), *scheme.layers(planes, planes, bias=False)]
            else:
                middle = [*scheme.layers(planes, planes, stride, bias=False), ("norm", NormReLU(planes))]
                expand = Conv2d(planes, expansion * planes, 1, bias=False)
                body = [("reduce", conv_norm(c, planes, 1)), *middle, ("expand", expand)]
            stage.append(Residual(body, c, expansion * planes, stride))
            c = expansion * planes
        stages.append(Sequential(*stage))
    return network(stem, "stages", stages, c, num_classes)


def build_separable(layout, scheme, in_channels, num_classes, scale, stem):
    first, *layout = layout.split()
    c = scale(int(first))
    stem = conv_norm(in_channels, c, 3, 2 if stem == "imagenet" else 1)
    blocks = []
    for entry in layout:
        planes, _, stride = entry.partition("/")
        o = scale(int(planes))
        layers = scheme.layers(c, o, int(stride or 1), bias=False, norm=True)
        blocks.append(named(*layers, ("norm", NormReLU(o))))
        c = o
    return network(stem, "blocks", blocks, c, num_classes)


def build(
    name,
    scheme,
    *,
    groups=2,
    channels=None,
    in_channels=3,
    num_classes=10,
    width=1.0,
    stem="cifar",
    expression="banded conv NCHW",
    device="cpu",
):
    """The network called ``name`` with fresh weights on ``device``; channels scaled to multiples of 8 (at least 8)."""
    scheme = Scheme(scheme, groups, channels, expression, device)
    if name in VGG:
        builder, layout = build_vgg, VGG[name]
    elif name in RESNET:
        builder, layout = build_resnet, RESNET[name]
    else:
        builder, layout = build_separable, SEPARABLE[name]

    def scale(count):
        return max(8, 8 * round(count * width / 8))

    with torch.device(device):
        return builder(layout, scheme, in_channels, num_classes, scale, stem)


_EXPRESSIONS = {
    # name in the tables: (memory format, SCC expression)
    "NCHW": (torch.contiguous_format, "banded conv NCHW"),
    "NCHW, SCC as matmul": (torch.contiguous_format, "banded matmul NCHW"),
    "channels_last": (torch.channels_last, "banded conv channels_last"),
    "channels_last, SCC as linear": (torch.channels_last, "banded linear channels_last"),
}
_COMPILED = "compiled "


def expressions(device):
    """Names of the ways to run a network; on a GPU each also by torch.compile with CUDA graphs."""
    compiled = [_COMPILED + name for name in _EXPRESSIONS] if device.startswith("cuda") else []
    return [*_EXPRESSIONS, *compiled]


def candidates(axes, device, prepare, result):
    """A Candidate of each expression that makes a difference to the case's scheme.

    prepare   (expression, inputs) -> run; result: the name of what run() returns
    """
    return [
        Candidate(
            f"torch {name}",
            "pytorch",
            lambda inputs, name=name: prepare(name, inputs),
            lambda found: {result: numpy(found)},
        )
        for name in expressions(device)
        if axes["scheme"] == "dw+scc" or "SCC" not in name
    ]


def scc_channels(in_channels, out_channels):
    """(O, K): the channel that each tap reads."""
    return ChannelWindows.sliding(in_channels, out_channels, GROUPS, OVERLAP).channels()


def _prepared(expression, name, scheme, state, in_channels, device):
    """(network of the engine's state, memory format of its images)."""
    memory_format, scc = _EXPRESSIONS[expression.removeprefix(_COMPILED)]
    settings = {"groups": GROUPS, "channels": scc_channels, "in_channels": in_channels, "expression": scc}
    model = build(name, scheme, device=device, **settings)
    model.load_state_dict({key: torch.as_tensor(np.asarray(value)) for key, value in state.items()})
    return model.to(memory_format=memory_format), memory_format


def _compiled(expression, model):
    return torch.compile(model, mode="reduce-overhead") if expression.startswith(_COMPILED) else model


def inference(expression, name, scheme, state, images, device):
    """forward(): the logits of a batch of images in evaluation."""
    model, memory_format = _prepared(expression, name, scheme, state, images.shape[1], device)
    model = _compiled(expression, model.eval())
    ready = tensor(images, device).contiguous(memory_format=memory_format)

    def forward():
        with torch.inference_mode():
            return model(ready)

    return forward


def training_step(expression, name, scheme, state, batches, device, *, lr, momentum):
    """step(): one forward, loss, backward and SGD step on the next of ``batches``; returns the loss tensor.

    expression   one of expressions()
    state        the engine's state dict, from which the weights are taken
    """
    model, memory_format = _prepared(expression, name, scheme, state, batches[0][0].shape[1], device)
    model = _compiled(expression, model.train())
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    ready = [
        (tensor(images, device).contiguous(memory_format=memory_format), tensor(labels, device))
        for images, labels in batches
    ]
    turn = iter(range(2**62))

    def step():
        images, labels = ready[next(turn) % len(ready)]
        loss = cross_entropy(model(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss

    return step
