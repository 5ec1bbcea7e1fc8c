"""A batch of a data set in memory: chosen, cropped, mirrored, covered and normalised in one pass over the output.

    y[c, h, w, n] = values[c, pixel]        pixel = images[image, c, h', w'], image = order[first + n]

(h', w') is where output pixel (h, w) of image n comes from. Each step maps a pixel of its output to one of its input,
so the steps are walked from the last to the first, and end early where a step puts in its own fill:

    CROP   h, w += a - padding, b - padding          fill outside the image      a, b < 2 * padding + 1
    FLIP   w = W - 1 - w  if a < threshold                                       a < 2**32
    CUTOUT fill in the square of `size` pixels from (a, b) - size // 2           a < H, b < W

A draw d of image n is the upper half of word d * N + n of NumPy's Philox stream at (key, counter), scaled to its bound:
the words that data.counter.Draws gives the transforms. ``values`` holds what each byte becomes.
"""

import numpy as np
from numba import prange

from sccengine.kernels.cpu.compile import PARALLEL_WORK, jit, parallel_jit

CROP, FLIP, CUTOUT = range(3)
#: Most draws an image can need: two a crop or cutout, one a flip.
DRAWS = 16


@jit
def _value(
    plane,  # (H, W), uint8: one channel of one image
    steps,  # (S, 3), int64
    fills,  # (S,), uint8: of this channel
    values,  # (256,): of this channel
    places,  # (D,), int64: what was drawn for this image
    h,
    w,
):
    for step in range(len(steps) - 1, -1, -1):
        kind, draw, amount = steps[step]
        a = places[draw]
        if kind == FLIP:
            w = plane.shape[1] - 1 - w if a < amount else w
            continue
        b = places[draw + 1]
        if kind == CROP:
            h += a - amount
            w += b - amount
            replaced = h < 0 or h >= plane.shape[0] or w < 0 or w >= plane.shape[1]
        else:
            down, right = h - a + amount // 2, w - b + amount // 2
            replaced = 0 <= down < amount and 0 <= right < amount
        if replaced:
            return values[fills[step]]
    return values[plane[h, w]]


@jit
def _fill_row(
    images,  # (I, C, H, W), uint8
    order,  # (N,), int64: of this batch
    steps,  # (S, 3), int64
    places,  # (N, D), int64
    fills,  # (C, S), uint8
    values,  # (C, 256)
    y,  # (C, H, W, N)
    row,  # c * H + h
):
    c, h = row // y.shape[1], row % y.shape[1]
    for n in range(y.shape[3]):
        for w in range(y.shape[2]):
            y[c, h, w, n] = _value(images[order[n], c], steps, fills[c], values[c], places[n], h, w)


@parallel_jit
def _batch(
    images,  # (I, C, H, W), uint8
    order,  # (N,), int64: of this batch
    steps,  # (S, 3), int64
    places,  # (N, D), int64
    fills,  # (C, S), uint8
    values,  # (C, 256)
    y,  # (C, H, W, N)
):
    rows = y.shape[0] * y.shape[1]
    for row in prange(rows):
        _fill_row(images, order, steps, places, fills, values, y, np.int64(row))


def batch(
    images,  # (I, C, H, W), uint8
    labels,  # (I,), int64
    order,  # (I,), int64
    first,  # where the batch begins in order
    steps,  # (S, 3), int64: kind, number of its first draw, padding or threshold or size
    bounds,  # (D,), int64: a draw is at least 0 and below its bound
    fills,  # (S, C), uint8
    values,  # (C, 256), float32
    key,  # two ints, as counter: the address of the random words
    counter,
    y,  # (C, H, W, N), float32
    chosen,  # (N,), int64: the labels of the batch
):
    count = y.shape[3]
    order = order[first : first + count]
    stream = np.random.Philox(key=np.array(key, np.uint64), counter=np.array((0, 0, *counter), np.uint64))
    words = stream.random_raw(len(bounds) * count).reshape(len(bounds), count) >> np.uint64(32)
    places = (words.T * bounds.astype(np.uint64) >> np.uint64(32)).astype(np.int64, order="C")
    _batch(images, order, steps, places, np.ascontiguousarray(fills.T), values, y, parallel=y.size >= PARALLEL_WORK)
    np.take(labels, order, out=chosen)
