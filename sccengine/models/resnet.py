"""ResNet18, 34 and 50 (He et al. 2015, arXiv 1512.03385), with CIFAR's or ImageNet's stem.

    stem     "cifar": 3x3 convolution to 64 channels; "imagenet": 7x7 with stride 2, then a 3x3 max pool with stride 2;
             batch norm + ReLU after the convolution
    stages   four of 64, 128, 256, 512 channels; the first block of all but the first stage has stride 2
    head     global average pool (at 32x32, where 4x4 pixels are left, the published 4x4 pool), one linear layer

A block computes relu(norm(body(x)) + shortcut(x)), with these bodies (18 and 34; 50, whose output has 4 C channels):

    basic block   3x3 convolution (stride), batch norm + ReLU, [3x3 convolution]
    bottleneck    1x1 convolution to C channels, batch norm + ReLU, [3x3 convolution (stride)], batch norm + ReLU,
                  1x1 convolution

The scheme (schemes.py) replaces the 3x3 convolution in brackets, and nothing else. Convolutions have no bias, but those
that replace one do, as published.
"""

from __future__ import annotations

from sccengine import nn
from sccengine.models.parts import conv_norm_relu, norm_relu, of_depth
from sccengine.models.settings import Builder, Settings

_CHANNELS = (64, 128, 256, 512)
_EXPANSION = 4


class ResidualBlock(nn.Module):
    """relu(norm(body(x)) + shortcut(x)); the shortcut is x itself where the shape stays, else a 1x1 convolution."""

    def __init__(self, body, in_channels, out_channels, stride):
        super().__init__()
        self.body = nn.Sequential(body)
        self.norm = norm_relu(out_channels)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential({"conv": conv, "norm": nn.BatchNorm2d(out_channels)})

    def forward(self, x):
        residual = x if self.shortcut is None else self.shortcut(x)
        return self.norm(self.body(x), residual)


def basic_block(builder, in_channels, channels, stride):
    """(block, its output channels)."""
    body = {"first": conv_norm_relu(in_channels, channels, stride=stride)}
    body |= builder.replacement(channels, channels, bias=False)
    return ResidualBlock(body, in_channels, channels, stride), channels


def bottleneck(builder, in_channels, channels, stride):
    """The same for a bottleneck."""
    out_channels = _EXPANSION * channels
    body = {"reduce": conv_norm_relu(in_channels, channels, 1)}
    body |= builder.replacement(channels, channels, stride, bias=False) | {"norm": norm_relu(channels)}
    body |= {"expand": nn.Conv2d(channels, out_channels, 1, bias=False)}
    return ResidualBlock(body, in_channels, out_channels, stride), out_channels


_BLOCKS = {  # kind, number in each stage
    18: (basic_block, (2, 2, 2, 2)),
    34: (basic_block, (3, 4, 6, 3)),
    50: (bottleneck, (3, 4, 6, 3)),
}


class ResNet(nn.Module):
    """(N, in_channels, H, W) of any size -> logits (N, num_classes).

    depth      18, 34 or 50
    settings   those of settings.Settings, by name
    """

    def __init__(self, depth, **settings):
        super().__init__()
        settings = Settings(**settings)
        builder = Builder(settings)
        channels = settings.scaled(_CHANNELS[0])
        if settings.stem == "cifar":
            self.stem = conv_norm_relu(settings.in_channels, channels)
        else:
            self.stem = conv_norm_relu(settings.in_channels, channels, 7, stride=2)
            self.stem.add_module("pool", nn.MaxPool2d(3, stride=2, padding=1))
        block, numbers = of_depth("ResNet", _BLOCKS, depth)
        stages = []
        for first_stride, out_channels, number in zip((1, 2, 2, 2), _CHANNELS, numbers):
            stage = []
            for position in range(number):
                stride = first_stride if position == 0 else 1
                layer, channels = block(builder, channels, settings.scaled(out_channels), stride)
                stage.append(layer)
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.GlobalAvgPool2d()
        self.head = builder.head(channels)

    def forward(self, x):
        return self.head(self.pool(self.stages(self.stem(x))))
