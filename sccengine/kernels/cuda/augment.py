"""A batch of a data set that lives on the device: chosen, cropped, mirrored, covered and normalised in one launch.

    y[c, h, w, n] = values[c, pixel]        pixel = images[image, c, h', w'], image = order[first + n]

(h', w') is where output pixel (h, w) of image n comes from. Each step maps a pixel of its output to one of its input,
so the steps are walked from the last to the first, and end early where a step puts in its own fill:

    CROP   h, w += a - padding, b - padding          fill outside the image      a, b < 2 * padding + 1
    FLIP   w = W - 1 - w  if a < threshold                                       a < 2**32
    CUTOUT fill in the square of `size` pixels from (a, b) - size // 2           a < H, b < W

A draw d of image n is the upper half of word d * N + n of the Philox stream at (key, counter), scaled to its bound:
the words that data.counter.Draws gives the transforms on the host. ``values`` holds what each byte becomes, computed
once on the host, so neither rounding nor the compiler's FMAs can make a batch differ from the host's by a bit.

images is (I, C, H, W), so an image's pixels are neighbours; in y (C, H, W, N) the images are. A block turns PIXELS
pixels of one channel of IMAGES images round in shared memory: bytes are read along a row of pixels, y is written along
a row of images. Floor: 1 byte read and 4 written for each element, 2 MB for 128 images of 3 x 32 x 32, less time than
a launch takes; so one launch does everything, and each block draws its images' numbers for itself.
"""

from __future__ import annotations

import numpy as np
from numba import cuda, float32, uint32

from sccengine.kernels.cuda import philox
from sccengine.kernels.cuda.indexing import quotient
from sccengine.kernels.cuda.launch import BLOCK, SIMULATED, Build, blocks, divide_up, let_uint64_wrap

CROP, FLIP, CUTOUT = range(3)
#: Most draws an image can need: two a crop or cutout, one a flip.
DRAWS = 16

IMAGES = 4 if SIMULATED else 32
PIXELS = 6 if SIMULATED else 64
# One more than IMAGES, so that both the writes along a column and the reads along a row of the tile spread over banks.
PITCH = IMAGES + 1
_TILE = PIXELS * PITCH
_PLACES = DRAWS * IMAGES
_THREADS = BLOCK


@cuda.jit(device=True)
def _value(
    images,  # (I, C, H, W), uint8
    steps,  # (S, 3), int64
    fills,  # (S, C), uint8
    values,  # (C, 256)
    places,  # shared (DRAWS, IMAGES), uint32: what was drawn
    image,  # in images
    column,  # in places
    c,
    h,
    w,
    S,
    C,
    H,
    W,
):
    """The element of y that comes from one image at output pixel (c, h, w)."""
    for remaining in range(S, 0, -1):
        step = np.int32(remaining - 1)
        kind, draw, amount = np.int32(steps[3 * step]), np.int32(steps[3 * step + 1]), steps[3 * step + 2]
        a = np.int64(places[draw * IMAGES + column])
        if kind == FLIP:
            w = np.int32(W - 1 - w if a < amount else w)
            continue
        b = np.int64(places[(draw + 1) * IMAGES + column])
        if kind == CROP:
            h = np.int32(h + a - amount)
            w = np.int32(w + b - amount)
            replaced = h < 0 or h >= H or w < 0 or w >= W
        else:
            down, right = h - a + amount // 2, w - b + amount // 2
            replaced = 0 <= down < amount and 0 <= right < amount
        if replaced:
            return values[c * 256 + fills[step * C + c]]
    return values[c * 256 + images[((image * C + c) * H + h) * W + w]]


@cuda.jit
def batch_v1(
    images,  # (I, C, H, W), uint8
    labels,  # (I,), int64
    order,  # (I,), int64
    steps,  # (S, 3), int64: kind, number of its first draw, padding or threshold or size
    bounds,  # (D,), int64: a draw is at least 0 and below its bound
    fills,  # (S, C), uint8
    values,  # (C, 256)
    y,  # (C, H, W, N)
    chosen,  # (N,), int64: the labels of the batch
    first,  # where the batch begins in order
    S,
    D,
    C,
    H,
    W,
    N,
    k0,  # uint64, as the next three: the stream's key and counter
    k1,
    c2,
    c3,
):
    places = cuda.shared.array(_PLACES, uint32)
    tile = cuda.shared.array(_TILE, float32)
    thread = np.int32(cuda.threadIdx.x)
    P = np.int32(H * W)
    strips = np.int32((P + PIXELS - 1) // PIXELS)
    c = quotient(cuda.blockIdx.x, strips)
    pixel0 = np.int32((cuda.blockIdx.x - c * strips) * PIXELS)
    n0 = np.int32(cuda.blockIdx.y * IMAGES)
    images_here = np.int32(min(IMAGES, N - n0))
    pixels_here = np.int32(min(PIXELS, P - pixel0))

    for i in range(thread, D * IMAGES, _THREADS):
        draw, column = quotient(i, IMAGES), np.int32(i % IMAGES)
        if column < images_here:
            word = philox.philox_word(k0, k1, c2, c3, np.int32(draw * N + n0 + column))
            places[i] = np.uint32((word >> np.uint64(32)) * np.uint64(bounds[draw]) >> np.uint64(32))
    cuda.syncthreads()
    for i in range(thread, PIXELS * IMAGES, _THREADS):
        column, pixel = quotient(i, PIXELS), np.int32(i % PIXELS)
        if column < images_here and pixel < pixels_here:
            image = np.int32(order[first + n0 + column])
            h = quotient(pixel0 + pixel, W)
            w = np.int32(pixel0 + pixel - h * W)
            tile[pixel * PITCH + column] = _value(
                images, steps, fills, values, places, image, column, c, h, w, S, C, H, W
            )
            if cuda.blockIdx.x == 0 and pixel == 0:
                chosen[n0 + column] = labels[image]
    cuda.syncthreads()
    for i in range(thread, PIXELS * IMAGES, _THREADS):
        pixel, column = quotient(i, IMAGES), np.int32(i % IMAGES)
        if column < images_here and pixel < pixels_here:
            y[(c * P + pixel0 + pixel) * N + n0 + column] = tile[pixel * PITCH + column]


def batch(images, labels, order, first, steps, bounds, fills, values, key, counter, y, chosen):
    """y (C, H, W, N) and chosen (N,) from the images and labels at order[first : first + N].

    images (I, C, H, W) and fills (S, C) uint8, labels, order (I,), steps (S, 3) and bounds (D,) int64, values (C, 256)
    and y float32; key and counter: two ints each, the address of the random words.
    """
    let_uint64_wrap(philox.__name__)
    C, H, W, N = y.shape
    grid = (C * divide_up(H * W, PIXELS), divide_up(N, IMAGES))
    arrays = (images, labels, order, steps, bounds, fills, values, y, chosen)
    sizes = (first, len(steps), len(bounds), C, H, W, N)
    blocks(batch_v1, grid, _THREADS, *arrays, *sizes, *map(np.uint64, (*key, *counter)))


COMPILE = [
    Build(batch_v1, "BLLLLBSSLiiiiiiiuuuu"),
]
