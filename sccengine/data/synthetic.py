"""A colour set drawn by code: ten shapes on 32x32 pixels, for work at CIFAR's size without a download.

Each image has one shape of random place, size, rotation and colour over a shaded background. A bar and two
small discs lie under it and one more disc may cover a part of it; then comes pixel noise. The class is the
shape alone: colour, contrast and clutter tell nothing.

A shape is a signed distance d(u, v), negative inside, in the shape's own coordinates (turned, and scaled so
that it about fills the unit circle). At r pixels to the unit a pixel is covered by clip(1/2 - r d, 0, 1),
which antialiases the outline.

The images are the same bits on every machine: random integers come from counter.py, and the drawing uses
float32 with only those operations that IEEE 754 rounds in one way (+ - * / sqrt, min, max, abs, floor),
element by element. Sines are a table.
"""

from __future__ import annotations

import numpy as np

from sccengine import numeric
from sccengine.data.counter import DRAWING, NOISE, Draws, check_seed
from sccengine.data.dataset import ImageDataset

SIZE = 32
_CHUNK = 64  # images drawn at a time: small enough for the cache
_WORDS = 64  # random words for the parameters of one image
_NOISE_LEVELS = 25  # of pixel noise, symmetric about 0

# 256 sin(k pi / 32), rounded, for a quarter of a turn; from it one whole turn in 64 steps.
_QUARTER = (0, 25, 50, 74, 98, 121, 142, 162, 181, 198, 213, 226, 237, 245, 251, 255)
_HALF = (*_QUARTER, 256, *_QUARTER[:0:-1])
_SINES = np.array([*_HALF, *(-value for value in _HALF)], np.float32) / np.float32(256)
_ANGLES = len(_SINES)

# Unit vectors to the corners of an equilateral triangle and of a regular pentagon.
_TRIANGLE = ((0.0, 1.0), (0.8660254, -0.5), (-0.8660254, -0.5))
_PENTAGON = (
    (0.0, 1.0),
    (0.9510565, 0.3090170),
    (0.5877853, -0.8090170),
    (-0.5877853, -0.8090170),
    (-0.9510565, 0.3090170),
)


def load_synthetic(train=5_000, test=1_000, seed=0):
    """(train, test): `train` and `test` images, uint8 (N, 3, 32, 32), label i % 10 at position i.

    Image i of a part depends only on (seed, part, i), so a larger set starts with the smaller one.
    Raises TypeError or ValueError for an invalid number of images or seed.
    """
    seed = check_seed(seed, "load_synthetic")
    train = numeric.whole("load_synthetic", "train", train)
    test = numeric.whole("load_synthetic", "test", test)
    return _part("train", 0, train, seed), _part("test", 1, test, seed)


def _part(name, position, count, seed):
    parameters = Draws(seed, DRAWING, position).words(count * _WORDS).reshape(count, _WORDS)
    noise = Draws(seed, NOISE, position).words(count * 3 * SIZE * SIZE // 8).astype("<u8").view(np.uint8)
    noise = noise.reshape(count, 3, SIZE, SIZE)
    labels = np.arange(count, dtype=np.int64) % len(SHAPES)
    images = np.empty((count, 3, SIZE, SIZE), np.uint8)
    for label, shape in enumerate(SHAPES.values()):
        members = np.flatnonzero(labels == label)
        for start in range(0, len(members), _CHUNK):
            chunk = members[start : start + _CHUNK]
            images[chunk] = _add_noise(_draw(shape, _Random(parameters[chunk])), noise[chunk])
    return ImageDataset(images, labels, tuple(SHAPES), f"synthetic/{name}", f"drawn by sccengine, seed {seed}")


class _Random:
    """The random parameters of n images, one column of words after another; float32 (n, 1, 1) each."""

    def __init__(self, words):
        self._columns = iter(words.T)

    def uniform(self, low, high):
        # 24 bits of a word are exact in float32.
        unit = (next(self._columns) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
        return (np.float32(low) + unit * np.float32(high - low))[:, None, None]

    def turn(self):
        """(cosine, sine) of one of the 64 angles."""
        angle = (next(self._columns) >> np.uint64(58)).astype(np.int64)
        return _SINES[(angle + _ANGLES // 4) % _ANGLES, None, None], _SINES[angle, None, None]

    def colour(self, light):
        """(n, 3, 1, 1) of random hue, bright where `light` (n, 1, 1) is 1 and dark where it is 0."""
        hue, saturation, value = self.uniform(0, 6), self.uniform(0.15, 0.75), self.uniform(0.08, 0.34)
        value = value + light * np.float32(0.6)
        hues = np.stack([hue, hue + 4, hue + 2], axis=1)
        tint = np.abs(hues - 6 * np.floor(hues / 6) - 3) - 1
        return value[:, None] * (1 - saturation[:, None] * (1 - np.clip(tint, 0, 1)))


def _draw(shape, random):
    """float32 (n, 3, SIZE, SIZE) in 0 ... 1."""
    light = np.floor(random.uniform(0, 2))  # whether the shape is light on dark
    picture = _background(random, 1 - light)
    _cover(picture, *_bar(random), random.colour(light))
    for _ in range(2):
        _cover(picture, *_spot(random, 16), random.colour(light))
    radius = random.uniform(7.5, 12)
    u, v = _place(random, 4.5, radius)
    _cover(picture, shape(u, v), radius, random.colour(light))
    _cover(picture, *_spot(random, 16), random.colour(1 - light))
    return picture


def _background(random, light):
    """Two colours blended along a random direction."""
    x, _ = _place(random, 0, np.float32(SIZE))
    blend = np.clip(x + np.float32(0.5), 0, 1)[:, None]
    return random.colour(light) * (1 - blend) + random.colour(light) * blend


def _place(random, reach, scale):
    """(u, v) of all pixels, (n, SIZE, SIZE) each, about a centre within `reach` of the middle, turned and scaled."""
    middle = (SIZE - 1) / 2
    pixel = np.arange(SIZE, dtype=np.float32)
    x = pixel[None, None, :] - random.uniform(middle - reach, middle + reach)
    y = pixel[None, :, None] - random.uniform(middle - reach, middle + reach)
    cosine, sine = random.turn()
    return (x * cosine + y * sine) / scale, (y * cosine - x * sine) / scale


def _bar(random):
    """(distance, scale) of a thin bar."""
    u, v = _place(random, 14, np.float32(1))
    return np.maximum(np.abs(u) - random.uniform(3, 8), np.abs(v) - random.uniform(0.4, 0.9)), np.float32(1)


def _spot(random, reach):
    """(distance, scale) of a small disc."""
    u, v = _place(random, reach, np.float32(1))
    return np.sqrt(u * u + v * v) - random.uniform(0.9, 2.4), np.float32(1)


def _cover(picture, distance, scale, colour):
    """Lay `colour` over `picture`, in place, where `distance` (in units of `scale` pixels) is negative."""
    coverage = np.clip(np.float32(0.5) - distance * scale, 0, 1)[:, None]
    picture += (colour - picture) * coverage


def _add_noise(picture, noise):
    """uint8 of `picture` (0 ... 1) plus a symmetric integer made from each byte of `noise`."""
    levels = (noise.astype(np.int16) * _NOISE_LEVELS >> 8) - _NOISE_LEVELS // 2
    pixels = np.floor(picture * np.float32(255) + np.float32(0.5)).astype(np.int16)
    return np.clip(pixels + levels, 0, 255).astype(np.uint8)


def _disc(u, v, radius=0.9, at=0.0):
    u = u - np.float32(at)
    return np.sqrt(u * u + v * v) - np.float32(radius)


def _box(u, v, half_width, half_height):
    return np.maximum(np.abs(u) - np.float32(half_width), np.abs(v) - np.float32(half_height))


def _edges(u, v, normals, inset):
    """One signed distance for each straight edge, `inset` from the centre: (edges, n, SIZE, SIZE)."""
    return np.stack([u * np.float32(a) + v * np.float32(b) - np.float32(inset) for a, b in normals])


def _bands(u, pitch):
    """Signed distance to bands of half the pitch, of which one is centred on 0."""
    return np.abs(u - np.floor(u / np.float32(pitch) + np.float32(0.5)) * np.float32(pitch)) - np.float32(pitch / 4)


def _ring(u, v):
    return np.abs(_disc(u, v, 0.72)) - np.float32(0.2)


def _triangle(u, v):
    return _edges(u, v, _TRIANGLE, 0.5).max(axis=0)


def _square(u, v):
    return _box(u, v, 0.76, 0.76)


def _cross(u, v):
    return np.minimum(_box(u, v, 0.95, 0.28), _box(u, v, 0.28, 0.95))


def _star(u, v):
    # A pentagram is where at most one of five edges is crossed: the second largest distance is negative.
    return np.sort(_edges(u, v, _PENTAGON, 0.36), axis=0)[-2]


def _crescent(u, v):
    return np.maximum(_disc(u, v, 0.95), -_disc(u, v, 0.78, at=0.48))


def _heart(u, v):
    # Two discs that touch at the notch, and under the chords from there the wedge whose sides are tangent to them.
    u = np.abs(u)
    side = u * np.float32(0.7860) + v * np.float32(0.6182) - np.float32(0.5873)
    top = u * np.float32(0.3271) - v * np.float32(0.9450) - np.float32(0.3308)
    return np.minimum(_disc(v, u - np.float32(0.45), 0.45, at=-0.35), np.maximum(side, top))


def _stripes(u, v):
    return np.maximum(_box(u, v, 0.95, 0.85), _bands(u, 0.7))


def _checkers(u, v):
    # Three by three cells: inside both bands or outside both; the box ends just before the outermost edges.
    a, b = _bands(u, 1.16), _bands(v, 1.16)
    return np.maximum(_box(u, v, 0.82, 0.82), np.minimum(np.maximum(a, b), -np.minimum(a, b)))


SHAPES = {
    "disc": _disc,
    "ring": _ring,
    "triangle": _triangle,
    "square": _square,
    "cross": _cross,
    "star": _star,
    "crescent": _crescent,
    "heart": _heart,
    "stripes": _stripes,
    "checkers": _checkers,
}
