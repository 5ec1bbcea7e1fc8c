"""DSCNet: a small network of depthwise and sliding-channel convolutions, for images from 8x8 to 32x32.

    stem     3x3 convolution to 32 channels, batch norm + ReLU
    block 1  [depthwise 3x3, batch norm + ReLU, channel mixing to  32, batch norm + ReLU]
    block 2  the same to  64 channels, stride 2
    block 3  the same to 128 channels, stride 2
    head     global average pool, linear layer to the classes

The scheme (schemes.py) says what the channel mixing is; with "standard" a block is one 3x3 convolution, batch norm +
ReLU. Convolutions that a batch norm follows at once would not need their bias; the published models give the depthwise
and mixing layers one nevertheless, and so does this.
"""

from __future__ import annotations

from functools import partial

from sccengine import nn

from .schemes import DEFAULT_SCHEME, check_scheme, replacement

_BLOCKS = ((32, 1), (64, 2), (128, 2))  # output channels, stride
_STEM = 32

_norm_relu = partial(nn.BatchNorm2d, relu=True)


class DSCNet(nn.Module):
    """The network above: (N, in_channels, H, W) -> logits (N, num_classes).

    scheme, groups, overlap   what the blocks are made of, see schemes.py
    width                     multiplies every number of channels, see `scaled`
    """

    def __init__(self, scheme=DEFAULT_SCHEME, groups=2, overlap=0.5, in_channels=3, num_classes=10, width=1.0):
        super().__init__()
        check_scheme(scheme)
        channels = scaled(_STEM, width)
        self.stem = nn.Sequential(
            {"conv": nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), "norm": _norm_relu(channels)}
        )
        blocks = []
        for out_channels, stride in _BLOCKS:
            out_channels = scaled(out_channels, width)
            layers = replacement(
                scheme,
                channels,
                out_channels,
                stride=stride,
                groups=groups,
                overlap=overlap,
                norm=_norm_relu,
                bias=False,
            )
            blocks.append(nn.Sequential(layers | {"norm": _norm_relu(out_channels)}))
            channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.GlobalAvgPool2d()
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x):
        return self.head(self.pool(self.blocks(self.stem(x))))


def scaled(channels, width):
    """`channels` times `width`, to the nearest multiple of 8; below 8, to the nearest of 1, 2, 4, 8.

    So that groups of 2, 4 and 8 go on dividing the channels of every layer that is wide enough for them.
    """
    wanted = channels * width
    if wanted >= 8:
        return 8 * round(wanted / 8)
    return min((1, 2, 4, 8), key=lambda power: abs(power - wanted))
