"""ImageDataset: labelled images in memory, checked once when built and then read-only.

Images are uint8 (N, C, H, W), 0 ... 255 whatever the source, so that statistics, transforms, plots and
prediction need no per-dataset scale. A reader reports what is wrong with a file as a DataError before it gets
here; the checks below are for arrays handed over by a program.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sccengine.data.counter import SPLIT, Draws, check_seed

_STATISTICS_CHUNK = 512


@dataclass(frozen=True, eq=False, repr=False)
class ImageDataset:
    """Labelled images of one size.

    images       uint8 (N, C, H, W), N, C, H, W >= 1, values 0 ... 255
    labels       int64 (N,), each in 0 ... len(class_names) - 1
    class_names  a tuple of different strings; position = label
    name         what to call it in a report, e.g. "digits/train"
    source       where it came from, e.g. a path or a citation

    The arrays are not copied; the views kept here are read-only.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    name: str
    source: str = ""

    def __post_init__(self):
        images, labels = self.images, self.labels
        owner = f"ImageDataset {self.name!r}"
        for what, array, dtype in (("images", images, np.uint8), ("labels", labels, np.int64)):
            if not isinstance(array, np.ndarray):
                raise TypeError(f"{owner}: {what} must be a NumPy array, got {type(array).__name__}")
            if array.dtype != dtype:
                raise TypeError(f"{owner}: {what} must have dtype {np.dtype(dtype)}, got {array.dtype}")
        if images.ndim != 4 or 0 in images.shape:
            raise ValueError(f"{owner}: images must have shape (N, C, H, W) with no empty axis, got {images.shape}")
        if labels.shape != images.shape[:1]:
            raise ValueError(f"{owner}: labels must have shape {images.shape[:1]}, one an image, got {labels.shape}")
        if not isinstance(self.class_names, (tuple, list)):
            raise TypeError(f"{owner}: class_names must be a tuple of strings, got {type(self.class_names).__name__}")
        names = tuple(self.class_names)
        if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
            raise ValueError(f"{owner}: class_names must be different strings, got {names!r}")
        if labels.min() < 0 or labels.max() >= len(names):
            raise ValueError(
                f"{owner}: labels must be in 0 ... {len(names) - 1} ({len(names)} class names), "
                f"got {labels.min()} ... {labels.max()}"
            )
        object.__setattr__(self, "images", _read_only(images))
        object.__setattr__(self, "labels", _read_only(labels))
        object.__setattr__(self, "class_names", names)

    def __len__(self):
        return len(self.labels)

    def __repr__(self):
        channels, height, width = self.image_shape
        return (
            f"ImageDataset({self.name!r}: {len(self):,} images, {channels} x {height} x {width}, "
            f"{self.num_classes} classes)"
        )

    @property
    def image_shape(self):
        """(C, H, W) of every image."""
        return self.images.shape[1:]

    @property
    def num_classes(self):
        return len(self.class_names)

    def subset(self, indices, name=None):
        """The images at `indices` (integers, in that order; copied), with the same classes."""
        indices = np.asarray(indices)
        if indices.ndim != 1 or indices.dtype.kind not in "iu" or not len(indices):
            raise ValueError(
                f"ImageDataset {self.name!r}: subset needs a non-empty row of integers, "
                f"got {indices.dtype} {indices.shape}"
            )
        if indices.min() < 0 or indices.max() >= len(self):
            raise ValueError(
                f"ImageDataset {self.name!r}: subset indices must be in 0 ... {len(self) - 1}, "
                f"got {indices.min()} ... {indices.max()}"
            )
        return ImageDataset(
            self.images[indices], self.labels[indices], self.class_names, name or self.name, self.source
        )

    def split(self, fraction=0.2, seed=0):
        """(rest, held out): `fraction` of each class, in whole images, is held out; both keep their order.

        Which images, depends on `seed` and the labels alone, so a data set's split is fixed by the caller's
        constant and not by a run's seed. A class of which no image would be held out gives one if it has at
        least two.
        """
        seed = check_seed(seed, "split")
        if not 0 < fraction < 1:
            raise ValueError(f"split: fraction must be between 0 and 1, got {fraction}")
        held_out = []
        for label in range(self.num_classes):
            members = np.flatnonzero(self.labels == label)
            count = min(max(1, round(len(members) * fraction)), len(members) - 1)
            if count > 0:
                order = Draws(seed, SPLIT, label).permutation(len(members))
                held_out.append(members[order[:count]])
        if not held_out:
            raise ValueError(f"split: no class of ImageDataset {self.name!r} has two images")
        mask = np.zeros(len(self), bool)
        mask[np.concatenate(held_out)] = True
        return (
            self.subset(np.flatnonzero(~mask), f"{self.name}/train"),
            self.subset(np.flatnonzero(mask), f"{self.name}/test"),
        )

    def channel_statistics(self):
        """(mean, std), a tuple of C floats each, over all pixels of a channel; black is 0.0 and white 1.0.

        For `Normalize`; to be computed on the training images. Sums are of integers, so the result is exact
        to rounding.
        """
        total = np.zeros(self.image_shape[0], np.int64)
        squares = np.zeros_like(total)
        for start in range(0, len(self), _STATISTICS_CHUNK):
            chunk = self.images[start : start + _STATISTICS_CHUNK].astype(np.int32)
            total += chunk.sum(axis=(0, 2, 3), dtype=np.int64)
            squares += (chunk * chunk).sum(axis=(0, 2, 3), dtype=np.int64)
        count = self.images.size // len(total)
        mean = tuple(int(s) / count / 255 for s in total)
        std = tuple(math.sqrt(count * int(q) - int(s) ** 2) / count / 255 for s, q in zip(total, squares))
        return mean, std


def _read_only(array):
    view = array.view()
    view.flags.writeable = False
    return view
