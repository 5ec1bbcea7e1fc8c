"""VGG11, 13, 16 and 19 (Simonyan & Zisserman 2014, arXiv 1409.1556) with batch norm, in the form used for CIFAR.

    stem     3x3 convolution to 64 channels, the first of stage 1
    stages   five of 64, 128, 256, 512, 512 channels: 3x3 convolutions, then a 2x2 max pool
    head     global average pool, one linear layer to the classes

Batch norm + ReLU follow every convolution, and every one has a bias. All 3x3 convolutions but the stem are replaced by
the scheme (schemes.py); batch norm follows the channel mixing only.

At 32x32 one pixel is left before the head, so the global pool changes nothing there, and it is what fits the 7x7 pixels
left of 224x224 to the one linear layer; the three wide layers of the original ImageNet classifier are not built.
"""

from __future__ import annotations

from sccengine import nn
from sccengine.models.parts import check_image_size, conv_norm_relu, norm_relu, of_depth
from sccengine.models.settings import Builder, Settings

_CHANNELS = (64, 128, 256, 512, 512)
_CONVOLUTIONS = {  # in each stage, the stem included
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


class VGG(nn.Module):
    """(N, in_channels, H, W), H and W at least 32 -> logits (N, num_classes).

    depth      11, 13, 16 or 19: the original's layers, of which three are not here
    settings   those of settings.Settings, by name
    """

    least_size = 2 ** len(_CHANNELS)

    def __init__(self, depth, **settings):
        super().__init__()
        settings = Settings(**settings)
        builder = Builder(settings)
        channels = settings.scaled(_CHANNELS[0])
        self.stem = conv_norm_relu(settings.in_channels, channels, bias=True)
        stages = []
        for number, (out_channels, convolutions) in enumerate(zip(_CHANNELS, of_depth("VGG", _CONVOLUTIONS, depth))):
            out_channels = settings.scaled(out_channels)
            stage = {}
            for position in range(convolutions - (number == 0)):
                layers = builder.replacement(channels, out_channels)
                stage[str(position)] = nn.Sequential(layers | {"norm": norm_relu(out_channels)})
                channels = out_channels
            stages.append(nn.Sequential(stage | {"pool": nn.MaxPool2d(2)}))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.GlobalAvgPool2d()
        self.head = builder.head(channels)

    def forward(self, x):
        x = self.stem(x)
        check_image_size(self, x.shape[2:])
        return self.head(self.pool(self.stages(x)))
