"""What DSCNet and MobileNet have in common: a stem, then one chain of separable blocks.

    stem     3x3 convolution without bias, batch norm + ReLU; stride 1, or 2 for ImageNet's image sizes
    blocks   [depthwise 3x3, batch norm + ReLU, channel mixing, batch norm + ReLU] each
    head     global average pool, linear layer to the classes

The scheme (schemes.py) says what the channel mixing is; with "standard" a block is one 3x3 convolution without bias,
batch norm + ReLU.
"""

from __future__ import annotations

from sccengine import nn
from sccengine.models.parts import conv_norm_relu, norm_relu
from sccengine.models.settings import Builder, Settings


class SeparableNetwork(nn.Module):
    """(N, in_channels, H, W) of any size -> logits (N, num_classes). Subclasses give the two tables.

    settings: those of settings.Settings, by name.
    """

    STEM = 0  # channels
    BLOCKS = ()  # (output channels, stride) of each block

    def __init__(self, **settings):
        super().__init__()
        settings = Settings(**settings)
        builder = Builder(settings)
        channels = settings.scaled(self.STEM)
        self.stem = conv_norm_relu(settings.in_channels, channels, stride=2 if settings.stem == "imagenet" else 1)
        blocks = []
        for out_channels, stride in self.BLOCKS:
            out_channels = settings.scaled(out_channels)
            layers = builder.replacement(channels, out_channels, stride, norm=norm_relu, bias=False)
            blocks.append(nn.Sequential(layers | {"norm": norm_relu(out_channels)}))
            channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.GlobalAvgPool2d()
        self.head = builder.head(channels)

    def forward(self, x):
        return self.head(self.pool(self.blocks(self.stem(x))))
