"""Sliding-channel convolution in float64 by dense products, as an oracle for problems of any size.

The same functions as sccengine.reference, whose windows they use: its loops over filters and taps take minutes where
these take a second.
"""

from __future__ import annotations

import numpy as np

from sccengine import reference


def forward(x, weight, bias, groups, overlap):
    """y (N, O, H, W) from x (N, C, H, W), weight (O, K) and bias (O,)."""
    x, weight, bias = (np.asarray(each, np.float64) for each in (x, weight, bias))
    images = x.reshape(*x.shape[:2], -1)
    channels = _channels(x.shape[1], len(weight), groups, overlap)
    y = _dense(weight, channels, x.shape[1]) @ images + bias[:, None]
    return y.reshape(len(x), len(weight), *x.shape[2:])


def backward(dy, x, weight, groups, overlap):
    """dx (x's shape), dweight (O, K) and dbias (O,)."""
    dy, x, weight = (np.asarray(each, np.float64) for each in (dy, x, weight))
    gradients, images = (each.reshape(*each.shape[:2], -1) for each in (dy, x))
    channels = _channels(x.shape[1], len(weight), groups, overlap)
    dx = (_dense(weight, channels, x.shape[1]).T @ gradients).reshape(x.shape)
    dweight = np.take_along_axis(np.tensordot(gradients, images, ((0, 2), (0, 2))), channels, axis=1)
    return dx, dweight, gradients.sum((0, 2))


def _channels(in_channels, filters, groups, overlap):
    width, starts = reference.scc_windows(in_channels, filters, groups, overlap)
    return (np.array(starts)[:, None] + np.arange(width)) % in_channels


def _dense(weight, channels, in_channels):
    matrix = np.zeros((len(weight), in_channels))
    np.put_along_axis(matrix, channels, weight, axis=1)
    return matrix
