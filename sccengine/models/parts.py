"""Pieces that the models share, and what they ask of an image."""

from __future__ import annotations

from functools import partial

from sccengine import nn
from sccengine.numeric import is_whole

norm_relu = partial(nn.BatchNorm2d, relu=True)


def conv_norm_relu(in_channels, out_channels, kernel_size=3, stride=1, bias=False):
    """A dense k x k convolution with padding k // 2, then batch norm + ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=bias)
    return nn.Sequential({"conv": conv, "norm": norm_relu(out_channels)})


def of_depth(model, table, depth):
    """table[depth]; ValueError that lists the depths of `model` where there is none."""
    if depth not in table:
        raise ValueError(f"{model}: depth must be one of {', '.join(map(str, table))}, got {depth!r}")
    return table[depth]


def image_shape(owner, input_shape, flat=False):
    """``input_shape`` as a tuple of ints (C, H, W), or (C,) where ``flat`` allows for models without images.

    TypeError or ValueError, which names ``owner``, for what is no such shape.
    """
    if not isinstance(input_shape, (tuple, list)) or not all(map(is_whole, input_shape)):
        raise TypeError(f"{owner}: input_shape must be three whole numbers (C, H, W), got {input_shape!r}")
    shape = tuple(int(size) for size in input_shape)
    if len(shape) not in ((1, 3) if flat else (3,)) or min(shape) < 1:
        batch = ": it is that of one image, without the batch" if len(shape) == 4 else ""
        raise ValueError(f"{owner}: input_shape must be (C, H, W), all at least 1, got {input_shape}{batch}")
    return shape


def check_image_size(model, size):
    """ValueError unless images of `size` (height, width) are large enough for `model`, which may name a least_size."""
    least = getattr(model, "least_size", 1)
    height, width = size
    if min(height, width) < least:
        raise ValueError(
            f"{type(model).__name__}: images must be at least {least} x {least}, got {height} x {width}, "
            f"of which the poolings would leave nothing: use larger images or another model"
        )
