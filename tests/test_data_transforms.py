"""Batched transforms against loops over images."""

import numpy as np
import pytest

from sccengine.data import Compose, Cutout, ImageDataset, Normalize, RandomCrop, RandomHorizontalFlip, batch_last
from sccengine.data.counter import AUGMENTATION, Draws

SHAPES = [(1, 1, 1, 1), (5, 1, 8, 8), (7, 3, 9, 5)]


def batch(shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


def draws(batch_number=0):
    return Draws(3, AUGMENTATION, 1, batch_number)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("padding", [1, 4])
def test_random_crop(shape, padding, dtype):
    images = batch(shape, dtype)
    before = images.copy()
    got = RandomCrop(padding, fill=7)(images, draws())
    random = draws()
    tops, lefts = random.integers(shape[0], 2 * padding + 1), random.integers(shape[0], 2 * padding + 1)
    want = np.full_like(images, 7)
    for n, c, y, x in np.ndindex(*shape):
        source_y, source_x = y + tops[n] - padding, x + lefts[n] - padding
        if 0 <= source_y < shape[2] and 0 <= source_x < shape[3]:
            want[n, c, y, x] = images[n, c, source_y, source_x]
    assert got.dtype == dtype and np.array_equal(got, want) and np.array_equal(images, before)


def test_random_crop_reaches_every_offset():
    image = np.zeros((1, 1, 5, 5), np.uint8)
    image[0, 0, 2, 2] = 1
    got = RandomCrop(2)(np.repeat(image, 2_000, axis=0), draws())
    counts = got.sum(axis=(0, 1), dtype=int)
    assert counts.sum() == 2_000 and counts.min() > 40


@pytest.mark.parametrize("shape", SHAPES)
def test_random_horizontal_flip(shape):
    images = batch(shape)
    before = images.copy()
    got = RandomHorizontalFlip()(images, draws())
    chosen = draws().integers(shape[0], 1 << 32) < 1 << 31
    for n in range(shape[0]):
        want = np.array([[row[::-1] for row in plane] for plane in images[n]]) if chosen[n] else images[n]
        assert np.array_equal(got[n], want)
    assert np.array_equal(images, before)
    assert np.array_equal(RandomHorizontalFlip(0)(images, draws()), images)
    assert np.array_equal(RandomHorizontalFlip(1.0)(images, draws()), images[..., ::-1])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 2, 5, 40])
def test_cutout(shape, size, dtype):
    images = batch(shape, dtype)
    before = images.copy()
    fill = tuple(range(1, shape[1] + 1))
    got = Cutout(size, fill)(images, draws())
    random = draws()
    rows, columns = random.integers(shape[0], shape[2]), random.integers(shape[0], shape[3])
    want = images.copy()
    for n, c, y, x in np.ndindex(*shape):
        dy, dx = y - rows[n] + size // 2, x - columns[n] + size // 2
        if 0 <= dy < size and 0 <= dx < size:
            want[n, c, y, x] = fill[c]
    assert got.dtype == dtype and np.array_equal(got, want) and np.array_equal(images, before)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_normalize(shape, dtype):
    images = batch(shape, dtype)
    mean, std = (0.1, 0.5, 0.9)[: shape[1]], (0.2, 0.3, 1.0)[: shape[1]]
    got = Normalize(mean, std)(images)
    want = np.empty(shape)
    for c in range(shape[1]):
        want[:, c] = (images[:, c] / 255.0 - mean[c]) / std[c]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert got.dtype == np.float32 and got.transpose(1, 2, 3, 0).flags.c_contiguous


def test_normalize_of_a_dataset_gives_mean_0_and_std_1():
    dataset = ImageDataset(batch((50, 3, 6, 6)), np.zeros(50, np.int64), ("a",), "toy")
    got = Normalize.of(dataset)(dataset.images).astype(np.float64)
    np.testing.assert_allclose(got.mean(axis=(0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(got.std(axis=(0, 2, 3)), 1, atol=1e-6)


def test_one_constant_for_all_channels():
    images = batch((2, 3, 4, 4))
    assert np.array_equal(Normalize(0.5, 0.25)(images), Normalize((0.5,) * 3, (0.25,) * 3)(images))


def test_batch_last():
    images = batch((3, 2, 4, 5))
    got = batch_last(images)
    assert got.shape == images.shape and got.dtype == np.float32 and got.transpose(1, 2, 3, 0).flags.c_contiguous
    assert np.array_equal(got, images.astype(np.float32) / np.float32(255))
    floats = images.astype(np.float32)
    assert np.array_equal(batch_last(floats), floats) and batch_last(floats).transpose(1, 2, 3, 0).flags.c_contiguous


def test_compose_applies_in_order_along_one_stream():
    images = batch((6, 3, 8, 8))
    crop, flip, cut, normalize = RandomCrop(2), RandomHorizontalFlip(), Cutout(3), Normalize(0.5, 0.5)
    random = draws()
    want = normalize(cut(flip(crop(images, random), random), random))
    nested = Compose(crop, Compose(flip, None, cut), None, normalize)
    assert np.array_equal(nested(images, draws()), want)
    assert not np.array_equal(nested(images, draws(1)), want)
    assert Compose()(images) is images


def test_text_says_every_setting():
    steps = Compose(RandomCrop(2), RandomHorizontalFlip(0.25), Cutout(3, (1, 2, 3)), Normalize(0.5, 0.25))
    assert repr(steps) == (
        "Compose(RandomCrop(padding=2, fill=0.0), RandomHorizontalFlip(p=0.25), "
        "Cutout(size=3, fill=(1.0, 2.0, 3.0)), Normalize(mean=(0.5,), std=(0.25,)))"
    )


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: RandomCrop(0), ValueError, "RandomCrop: padding must be at least 1, got 0"),
        (lambda: RandomCrop(1.5), TypeError, "RandomCrop: padding must be a whole number, got 1.5"),
        (lambda: RandomCrop(1, "red"), TypeError, "RandomCrop: fill must be a number, got 'r'"),
        (lambda: RandomCrop(1, ()), ValueError, "fill needs at least one number"),
        (lambda: Cutout(-3), ValueError, "Cutout: size must be at least 1, got -3"),
        (lambda: Cutout(3, float("nan")), ValueError, "Cutout: fill must be finite, got nan"),
        (lambda: RandomHorizontalFlip(1.5), ValueError, r"p must lie in \[0, 1\], got 1.5"),
        (lambda: RandomHorizontalFlip("half"), TypeError, "p must be a number, got 'half'"),
        (lambda: Normalize((0.5, 0.5), (0.2,)), ValueError, "one number for each channel, got 2 and 1"),
        (lambda: Normalize((), ()), ValueError, "one number for each channel, got 0 and 0"),
        (lambda: Normalize(125.3, 63.0), ValueError, r"means must be in 0 ... 1 \(divide by 255"),
        (lambda: Normalize(0.5, 0), ValueError, "stds must be above 0"),
        (lambda: Compose(3), TypeError, "a transform must be callable, got 3"),
    ],
)
def test_bad_settings(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("transform", [RandomCrop(1), RandomHorizontalFlip(), Cutout(2), Normalize(0.5, 0.5)])
def test_bad_batches(transform):
    owner = type(transform).__name__
    with pytest.raises(ValueError, match=rf"{owner}: images must have shape \(N, C, H, W\), got \(3, 8, 8\)"):
        transform(batch((3, 8, 8)), draws())
    with pytest.raises(TypeError, match=f"{owner}: images must be a uint8 or float32 NumPy array, got float64"):
        transform(batch((2, 3, 8, 8), np.float64), draws())
    with pytest.raises(TypeError, match=f"{owner}: .*got list"):
        transform([1], draws())


def test_constants_that_do_not_fit_the_batch():
    images = batch((2, 3, 8, 8))
    with pytest.raises(ValueError, match="Normalize: constants for 2 channels, got images with 3"):
        Normalize((0.5, 0.5), (0.5, 0.5))(images)
    with pytest.raises(ValueError, match="Cutout: fill has 2 numbers, got images with 3 channels"):
        Cutout(2, (1, 2))(images, draws())
    for fill in (0.5, 256, -1):
        with pytest.raises(ValueError, match="fill must be whole, in 0 ... 255, for uint8 images"):
            RandomCrop(1, fill)(images, draws())
    assert RandomCrop(1, -0.5)(images.astype(np.float32), draws()).min() == -0.5
