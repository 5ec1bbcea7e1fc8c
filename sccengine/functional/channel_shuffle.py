"""Channel shuffle (ShuffleNet, Zhang et al. 2018): channel g * (C/G) + i moves to i * G + g.

It mixes the groups of a grouped convolution. Backward is the shuffle with C/G groups, the inverse permutation.
"""

from __future__ import annotations

from sccengine import numeric
from sccengine.autograd import Function
from sccengine.backend import empty, from_rows, kernels_for, rows
from sccengine.functional import checks


class ChannelShuffleFunction(Function):
    def __init__(self, groups):
        self.groups = numeric.whole("channel_shuffle", "groups", groups)

    def forward(self, x):
        checks.batched("channel_shuffle", x)
        channels = x.shape[1]
        if channels % self.groups:
            raise ValueError(f"channel_shuffle: groups={self.groups} does not divide the input's {channels} channels")
        self.inverse_groups = channels // self.groups
        return _shuffled(x, self.groups)

    def backward(self, dy):
        return (_shuffled(dy, self.inverse_groups),)


def _shuffled(x, groups):
    x = rows(x)
    y = empty(x.shape, like=x)
    flat = (x.shape[0], -1)
    kernels_for(x).channel_shuffle.forward(x.reshape(flat), y.reshape(flat), groups)
    return from_rows(y)


def channel_shuffle(x, groups):
    """Interleave the ``groups`` equal groups of channels of x (N, C, ...).

    Raises ValueError unless ``groups`` divides C, TypeError if ``groups`` is no whole number or the dtype is not
    supported.
    """
    return ChannelShuffleFunction(groups)(x)
