"""Dense and grouped k x k convolution on the CPU: unfold a few output rows, then contract over channel windows.

Unfolding writes the pixels under each of the C * kh * kw taps as rows of columns (im2col), so that a convolution is
the contraction of the 1x1 family with C * kh * kw channels, dense or grouped. It is done for one band of output rows
at a time, small enough for the cache; the whole unfolded image is never stored, and backward unfolds again.

Layouts: x (C, H, W, N), weight (O, C/G, kh, kw), y (O, HO, WO, N), all with the batch last.
"""

import numpy as np
from numba import prange

from sccengine.kernels.cpu import scc_tiles, scc_tiles_backward
from sccengine.kernels.cpu.compile import parallel_jit
from sccengine.windows import ChannelWindows

# Elements of an unfolded band at most, unless a single output row has more.
_BAND_ELEMENTS = 1 << 20


@parallel_jit
def _unfold(x, kernel_height, kernel_width, stride_h, stride_w, padding_h, padding_w, first_row, band):
    """band (C * kh * kw, R, WO, N) from the input under R output rows."""
    channels, height, width, batch = x.shape
    taps = kernel_height * kernel_width
    for row in prange(channels * taps):
        c, i, j = row // taps, row % taps // kernel_width, row % kernel_width
        for a in range(band.shape[1]):
            h = (first_row + a) * stride_h - padding_h + i
            for b in range(band.shape[2]):
                w = b * stride_w - padding_w + j
                target = band[row, a, b]
                if 0 <= h < height and 0 <= w < width:
                    source = x[c, h, w]
                    for n in range(batch):
                        target[n] = source[n]
                else:
                    for n in range(batch):
                        target[n] = 0


@parallel_jit
def _fold(band, kernel_height, kernel_width, stride_h, stride_w, padding_h, padding_w, first_row, dx):
    """Add band (C * kh * kw, R, WO, N) to dx at the pixels that each entry was unfolded from; a channel a thread."""
    channels, height, width, batch = dx.shape
    taps = kernel_height * kernel_width
    for c in prange(channels):
        for tap in range(taps):
            i, j = tap // kernel_width, tap % kernel_width
            for a in range(band.shape[1]):
                h = (first_row + a) * stride_h - padding_h + i
                for b in range(band.shape[2]):
                    w = b * stride_w - padding_w + j
                    if 0 <= h < height and 0 <= w < width:
                        target = dx[c, h, w]
                        source = band[c * taps + tap, a, b]
                        for n in range(batch):
                            target[n] += source[n]


class _Bands:
    """The unfolded convolution: its windows, its tap geometry, and the bands of output rows."""

    def __init__(self, channels, weight_shape, y_shape, stride, padding, groups):
        filters, _, kernel_height, kernel_width = weight_shape
        self.unfolded = channels * kernel_height * kernel_width
        self.windows = ChannelWindows.grouped(self.unfolded, filters, groups)
        self.geometry = (kernel_height, kernel_width, *stride, *padding)
        _, self.height, self.width, self.batch = y_shape
        per_row = self.unfolded * self.width * self.batch
        self.rows = min(max(_BAND_ELEMENTS // per_row, 1), self.height)

    def __iter__(self):
        for first in range(0, self.height, self.rows):
            yield first, min(self.rows, self.height - first)

    def empty(self, rows, dtype):
        return np.empty((self.unfolded, rows, self.width, self.batch), dtype)


def _flat(image_rows):
    """(R, A, W, N) as a contiguous (R, A * W * N)."""
    return np.ascontiguousarray(image_rows).reshape(len(image_rows), -1)


def forward(x, weight, bias, y, stride, padding, groups):
    """y (O, HO, WO, N) from x (C, H, W, N), weight (O, C/G, kh, kw) and bias (O,) or None."""
    bands = _Bands(len(x), weight.shape, y.shape, stride, padding, groups)
    for first, rows in bands:
        band = bands.empty(rows, x.dtype)
        _unfold(x, *bands.geometry, first, band)
        part = np.empty((len(y), rows, *y.shape[2:]), y.dtype)
        scc_tiles.contract(_flat(band), weight.reshape(len(y), -1), bias, _flat(part), bands.windows)
        y[:, first : first + rows] = part


def backward_input(dy, weight, dx, stride, padding, groups):
    """dx (C, H, W, N) from dy (O, HO, WO, N)."""
    bands = _Bands(len(dx), weight.shape, dy.shape, stride, padding, groups)
    dx[...] = 0
    for first, rows in bands:
        band = bands.empty(rows, dy.dtype)
        part = _flat(dy[:, first : first + rows])
        scc_tiles.contract_transposed(part, weight.reshape(len(dy), -1), _flat(band), bands.windows)
        _fold(band, *bands.geometry, first, dx)


def backward_weight(dy, x, dweight, stride, padding, groups):
    """dweight (O, C/G, kh, kw), summed band after band."""
    bands = _Bands(len(x), dweight.shape, dy.shape, stride, padding, groups)
    dweight[...] = 0
    part = np.empty((len(dy), dweight[0].size), dweight.dtype)
    for first, rows in bands:
        band = bands.empty(rows, x.dtype)
        _unfold(x, *bands.geometry, first, band)
        scc_tiles_backward.backward_weight(_flat(dy[:, first : first + rows]), _flat(band), part, bands.windows)
        dweight += part.reshape(dweight.shape)
