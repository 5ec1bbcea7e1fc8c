"""The drawn set: pinned bits, balance, and outlines checked against geometry done another way."""

import hashlib
import math
import time

import numpy as np
import pytest

from sccengine.data import load_synthetic, synthetic

TRAIN_SHA256 = "1b233eb96754f2ebc5cb79a4dde5ac9d07be2cd550b656af34485a427acce764"
TEST_SHA256 = "9468014b0ec4975bf45d56cabed5527358b929b917f448deffed83d27dd00a8a"


def digest(dataset):
    return hashlib.sha256(dataset.images.tobytes()).hexdigest()


def test_default_set_is_the_same_bits_everywhere():
    train, test = load_synthetic()
    assert train.images.shape == (5000, 3, 32, 32) and test.images.shape == (1000, 3, 32, 32)
    assert np.bincount(train.labels).tolist() == [500] * 10 and np.bincount(test.labels).tolist() == [100] * 10
    assert digest(train) == TRAIN_SHA256
    assert digest(test) == TEST_SHA256


def test_quick():
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        load_synthetic(train=1_000, test=1)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1


def test_larger_sets_start_with_the_smaller_ones_and_seeds_differ():
    small, other_part = load_synthetic(37, 37)
    large, _ = load_synthetic(150, 1)
    assert np.array_equal(small.images, large.images[:37])
    assert not np.array_equal(small.images, other_part.images)
    assert not np.array_equal(small.images, load_synthetic(37, 1, seed=1)[0].images)
    assert len({image.tobytes() for image in large.images}) == 150


def test_colour_tells_nothing_about_the_class():
    """The mean colours of the classes differ by no more than chance lets them."""
    train, _ = load_synthetic(3_000, 1)
    colours = train.images.mean(axis=(2, 3))
    spread = colours.std(axis=0) / math.sqrt(300)
    means = np.stack([colours[train.labels == label].mean(axis=0) for label in range(10)])
    assert (np.abs(means - colours.mean(axis=0)) < 5 * spread).all()


def polygon(points):
    """Is (u, v) inside the polygon? Even-odd rule."""

    def inside(u, v):
        odd = False
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1]):
            if (y0 > v) != (y1 > v) and u < x0 + (v - y0) / (y1 - y0) * (x1 - x0):
                odd = not odd
        return odd

    return inside


def corners(count, radius, start):
    turn = 2 * math.pi / count
    return [(radius * math.sin(start + i * turn), radius * math.cos(start + i * turn)) for i in range(count)]


def star_points():
    outer = 0.36 / math.cos(2 * math.pi / 5)
    inner = 0.36 / math.cos(math.pi / 5)
    tips = corners(5, outer, 0.0)
    dents = corners(5, inner, math.pi / 5)
    return [point for pair in zip(tips, dents) for point in pair]


def rectangle(x0, x1, y0, y1):
    return lambda u, v: x0 < u < x1 and y0 < v < y1


def any_of(*parts):
    return lambda u, v: any(part(u, v) for part in parts)


INSIDE = {
    "disc": lambda u, v: math.hypot(u, v) < 0.9,
    "ring": lambda u, v: 0.52 < math.hypot(u, v) < 0.92,
    "triangle": polygon(corners(3, 1.0, math.pi)),
    "square": rectangle(-0.76, 0.76, -0.76, 0.76),
    "cross": any_of(rectangle(-0.95, 0.95, -0.28, 0.28), rectangle(-0.28, 0.28, -0.95, 0.95)),
    "star": polygon(star_points()),
    "crescent": lambda u, v: math.hypot(u, v) < 0.95 and math.hypot(u - 0.48, v) > 0.78,
    "heart": any_of(
        lambda u, v: math.hypot(u - 0.45, v + 0.35) < 0.45,
        lambda u, v: math.hypot(u + 0.45, v + 0.35) < 0.45,
        polygon([(0, 0.95), (0.8037, -0.0718), (0, -0.35), (-0.8037, -0.0718)]),
    ),
    "stripes": any_of(*(rectangle(x - 0.175, x + 0.175, -0.85, 0.85) for x in (-0.7, 0, 0.7))),
    "checkers": lambda u, v: (
        max(abs(u), abs(v)) < 0.82 and (math.floor(u / 0.58 + 0.5) + math.floor(v / 0.58 + 0.5)) % 2 == 0
    ),
}


@pytest.mark.parametrize("name", synthetic.SHAPES)
def test_shapes_are_what_their_names_say(name):
    points = np.random.default_rng(0).uniform(-1.05, 1.05, (2, 4_000))
    distance = synthetic.SHAPES[name](*points.astype(np.float32)[:, None, None])[0, 0]
    inside = np.array([INSIDE[name](u, v) for u, v in points.T])
    clear = np.abs(distance) > 1e-3
    assert clear.mean() > 0.97 and 0.05 < inside.mean() < 0.8
    wrong = (distance < 0) != inside
    assert not wrong[clear].any()


def test_sines_are_a_turn():
    want = np.sin(np.arange(64) * math.pi / 32)
    assert np.abs(synthetic._SINES - want).max() <= 0.5 / 256


def test_parameters_fit_their_words():
    """One image uses at most the words set aside for it, and the picture stays in 0 ... 1."""
    words = np.full((2, synthetic._WORDS), 2**64 - 1, np.uint64)
    words[1] = 0
    for shape in synthetic.SHAPES.values():
        picture = synthetic._draw(shape, synthetic._Random(words))
        assert picture.dtype == np.float32 and picture.min() >= 0 and picture.max() <= 1


@pytest.mark.parametrize(
    "bad, error", [({"train": 0}, ValueError), ({"test": 2.5}, TypeError), ({"seed": -1}, ValueError)]
)
def test_bad_settings(bad, error):
    with pytest.raises(error, match=f"load_synthetic: {next(iter(bad))} must be"):
        load_synthetic(**bad)
