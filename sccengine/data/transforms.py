"""What happens to a batch between the data set and the network: crop, flip, cutout, normalise.

A transform is called as transform(images, draws) with a whole batch (N, C, H, W), uint8 or float32 in pixel
units (0 ... 255) or, after Normalize, float32 in units of the standard deviation. It returns a batch and
leaves its input as it was. Every image of the batch gets its own random numbers, taken from `draws`
(counter.Draws), whose address the loader sets from (seed, epoch, batch): the same position in a run gives the
same bits, however the run got there.

The geometric transforms keep the dtype, and belong before Normalize, where a pixel is a byte. Normalize puts
the batch last in memory, as the engine wants it.
"""

from __future__ import annotations

import numpy as np

from sccengine import numeric


class Compose:
    """The transforms, one after the other. Nested ones and None are allowed and flattened away."""

    def __init__(self, *transforms):
        self.transforms = []
        for transform in transforms:
            if isinstance(transform, Compose):
                self.transforms += transform.transforms
            elif callable(transform):
                self.transforms.append(transform)
            elif transform is not None:
                raise TypeError(f"Compose: a transform must be callable, got {transform!r}")

    def __call__(self, images, draws=None):
        for transform in self.transforms:
            images = transform(images, draws)
        return images

    def __repr__(self):
        return f"Compose({', '.join(map(repr, self.transforms))})"


class RandomCrop:
    """Pad by `padding` pixels of `fill` on every side, then cut the image's own size at a random place."""

    def __init__(self, padding, fill=0):
        self.padding = numeric.whole("RandomCrop", "padding", padding)
        self.fill = _check_fill("RandomCrop", fill)

    def __call__(self, images, draws):
        count, _, height, width = _check_batch("RandomCrop", images)
        p = self.padding
        padded = np.empty((*images.shape[:2], height + 2 * p, width + 2 * p), images.dtype)
        padded[...] = fill_value("RandomCrop", self.fill, images)
        padded[:, :, p : p + height, p : p + width] = images
        tops, lefts = draws.integers(count, 2 * p + 1), draws.integers(count, 2 * p + 1)
        cropped = np.empty(images.shape, images.dtype)
        for n, (top, left) in enumerate(zip(tops.tolist(), lefts.tolist())):
            cropped[n] = padded[n, :, top : top + height, left : left + width]
        return cropped

    def __repr__(self):
        return f"RandomCrop(padding={self.padding}, fill={self.fill})"


class RandomHorizontalFlip:
    """Mirror each image left to right with probability `p`."""

    def __init__(self, p=0.5):
        self.p = numeric.up_to_one("RandomHorizontalFlip", "p", p)

    def __call__(self, images, draws):
        count, *_ = _check_batch("RandomHorizontalFlip", images)
        chosen = np.flatnonzero(draws.chances(count, self.p))
        flipped = images.copy()
        flipped[chosen] = images[chosen, :, :, ::-1]
        return flipped

    def __repr__(self):
        return f"RandomHorizontalFlip(p={self.p})"


class Cutout:
    """Cover a square of `size` pixels with `fill`; its centre is any pixel, so it may hang over the border.

    DeVries and Taylor (2017), "Improved Regularization of Convolutional Neural Networks with Cutout". For an
    even size the square reaches size/2 pixels up and left of its centre and size/2 - 1 down and right.
    """

    def __init__(self, size, fill=0):
        self.size = numeric.whole("Cutout", "size", size)
        self.fill = _check_fill("Cutout", fill)

    def __call__(self, images, draws):
        count, _, height, width = _check_batch("Cutout", images)
        value = fill_value("Cutout", self.fill, images)
        covered = images.copy()
        for n, (row, column) in enumerate(zip(draws.integers(count, height), draws.integers(count, width))):
            covered[n, :, self._span(row), self._span(column)] = value
        return covered

    def _span(self, centre):
        start = int(centre) - self.size // 2
        return slice(max(0, start), start + self.size)

    def __repr__(self):
        return f"Cutout(size={self.size}, fill={self.fill})"


class Normalize:
    """Pixels 0 ... 255 to float32 (pixel / 255 - mean) / std, channel by channel, batch last in memory.

    mean, std: one number for each channel (or one for all), on the scale where black is 0 and white is 1, as
    `ImageDataset.channel_statistics()` gives them and papers print them.
    """

    def __init__(self, mean, std):
        self.mean = tuple(numeric.finite("Normalize", "mean", value) for value in _sequence(mean))
        self.std = tuple(numeric.finite("Normalize", "std", value) for value in _sequence(std))
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(
                f"Normalize: mean and std need one number for each channel, got {len(self.mean)} and {len(self.std)}"
            )
        if not all(0 <= value <= 1 for value in self.mean):
            raise ValueError(f"Normalize: means must be in 0 ... 1 (divide by 255 those of bytes), got {self.mean}")
        if not all(0 < value <= 1 for value in self.std):
            raise ValueError(f"Normalize: stds must be above 0 and at most 1, got {self.std}")

    @classmethod
    def of(cls, dataset):
        """The one that gives the images of `dataset` mean 0 and standard deviation 1 in every channel."""
        return cls(*dataset.channel_statistics())

    def __call__(self, images, draws=None):
        channels = _check_batch("Normalize", images)[1]
        if len(self.mean) not in (1, channels):
            raise ValueError(f"Normalize: constants for {len(self.mean)} channels, got images with {channels}")
        scale = np.array([1 / (255 * std) for std in self.std], np.float32)
        offset = np.array([-mean / std for mean, std in zip(self.mean, self.std)], np.float32)
        rows = np.ascontiguousarray(images.transpose(1, 2, 3, 0)).astype(np.float32)
        rows *= scale[:, None, None, None]
        rows += offset[:, None, None, None]
        return rows.transpose(3, 0, 1, 2)

    def __repr__(self):
        return f"Normalize(mean={self.mean}, std={self.std})"


def batch_last(images):
    """float32 (N, C, H, W) whose memory is C, H, W, N contiguous. Bytes become 0.0 ... 1.0; float32 stays as it is."""
    _check_batch("batch_last", images)
    rows = np.ascontiguousarray(images.transpose(1, 2, 3, 0))
    if rows.dtype == np.uint8:
        rows = rows.astype(np.float32)
        rows /= np.float32(255)
    return rows.transpose(3, 0, 1, 2)


def _check_batch(owner, images):
    """The shape (N, C, H, W) of `images`."""
    if not isinstance(images, np.ndarray) or images.dtype not in (np.uint8, np.float32):
        found = getattr(images, "dtype", type(images).__name__)
        raise TypeError(f"{owner}: images must be a uint8 or float32 NumPy array, got {found}")
    if images.ndim != 4:
        raise ValueError(f"{owner}: images must have shape (N, C, H, W), got {images.shape}")
    return images.shape


def _sequence(value):
    return value if np.iterable(value) else (value,)


def _check_fill(owner, fill):
    """`fill` as a number, or a tuple of one number for each channel."""
    values = tuple(numeric.finite(owner, "fill", value) for value in _sequence(fill))
    if not values:
        raise ValueError(f"{owner}: fill needs at least one number")
    return values if len(values) > 1 else values[0]


def fill_value(owner, fill, images):
    """`fill` in the dtype of `images`, of a shape that broadcasts against them."""
    values = np.array(_sequence(fill))
    if len(values) not in (1, images.shape[1]):
        raise ValueError(f"{owner}: fill has {len(values)} numbers, got images with {images.shape[1]} channels")
    if images.dtype == np.uint8 and not np.array_equal(values, values.astype(np.uint8)):
        raise ValueError(f"{owner}: fill must be whole, in 0 ... 255, for uint8 images, got {fill}")
    return values.astype(images.dtype)[:, None, None]
