"""What DSCNet and MobileNet have in common: a stem, then one chain of separable blocks.

    stem     3x3 convolution without bias, batch norm + ReLU; stride 1, or 2 for ImageNet's image sizes
    blocks   [depthwise 3x3, batch norm + ReLU, channel mixing, batch norm + ReLU] each
    head     global average pool, linear layer to the classes

The scheme (schemes.py) says what the channel mixing is; with "standard" a block is one 3x3 convolution without bias,
batch norm + ReLU.
"""

from __future__ import annotations

from sccengine import nn

from .parts import DEFAULT_STEM, check_stem, conv_norm_relu, norm_relu, scaled
from .schemes import DEFAULT_SCHEME, check_scheme, replacement


class SeparableNetwork(nn.Module):
    """(N, in_channels, H, W) of any size -> logits (N, num_classes). Subclasses give the two tables.

    scheme, groups, overlap   what the blocks are made of, see schemes.py
    width                     multiplies every number of channels, see parts.scaled
    stem                      "cifar" or "imagenet": stride 1 or 2 in the first convolution
    """

    STEM = 0  # channels
    BLOCKS = ()  # (output channels, stride) of each block

    def __init__(
        self,
        scheme=DEFAULT_SCHEME,
        groups=2,
        overlap=0.5,
        in_channels=3,
        num_classes=10,
        width=1.0,
        stem=DEFAULT_STEM,
    ):
        super().__init__()
        check_scheme(scheme)
        check_stem(stem)
        channels = scaled(self.STEM, width)
        self.stem = conv_norm_relu(in_channels, channels, stride=2 if stem == "imagenet" else 1)
        blocks = []
        for out_channels, stride in self.BLOCKS:
            out_channels = scaled(out_channels, width)
            layers = replacement(
                scheme,
                channels,
                out_channels,
                stride=stride,
                groups=groups,
                overlap=overlap,
                norm=norm_relu,
                bias=False,
            )
            blocks.append(nn.Sequential(layers | {"norm": norm_relu(out_channels)}))
            channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.GlobalAvgPool2d()
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x):
        return self.head(self.pool(self.blocks(self.stem(x))))
