"""Augmentation: a data set on a device, and a loader's transforms as the tables of the kernel that makes its batches.

One launch (kernels/*/augment.py) chooses the images and does what the transforms do, with the same random words and
the same roundings: its batches have the bits of those that the transforms make on the host.
"""

from __future__ import annotations

import numpy as np

from sccengine import backend
from sccengine.data.counter import AUGMENTATION
from sccengine.data.transforms import Cutout, Normalize, RandomCrop, RandomHorizontalFlip, batch_last, fill_value

# What kernels cannot index: ELEMENT_LIMIT of kernels/cuda/launch.py, which needs Numba, so it is not imported here.
_PIXELS = 2**31 - 2**16


class Augmentation:
    """The images and labels of `dataset` on `device` (a full name), and what the Compose `transforms` does to them.

    Raises ValueError for transforms other than any number of RandomCrop, RandomHorizontalFlip and Cutout, then at most
    one Normalize; and for data sets of some 2**31 pixels or more, which kernels cannot index.
    """

    def __init__(self, dataset, transforms, device):
        if dataset.images.size >= _PIXELS:
            raise ValueError(
                f"Loader: {dataset!r} has {dataset.images.size:,} bytes of pixels; on a device it must have fewer than "
                f"{_PIXELS:,}: leave device=None"
            )
        self.images = backend.to_device(np.ascontiguousarray(dataset.images), device)
        self.labels = backend.to_device(np.ascontiguousarray(dataset.labels), device)
        self._kernels = backend.kernels_for(self.images).augment
        tables = self._tables(list(transforms.transforms), dataset.image_shape)
        self._tables = [backend.to_device(table, device) for table in tables]

    def batch(self, order, first, count, seed, epoch, batch):
        """(images (count, C, H, W), labels (count,)) at order[first : first + count], an int64 array on the device."""
        _, channels, height, width = self.images.shape
        y = backend.empty((channels, height, width, count), like=self.images, dtype=np.float32)
        labels = backend.empty((count,), like=self.labels)
        address = (seed, AUGMENTATION), (batch, epoch)
        self._kernels.batch(self.images, self.labels, order, first, *self._tables, *address, y, labels)
        return backend.from_rows(y), labels

    def _tables(self, transforms, shape):
        """(steps, bounds, fills, values), as kernels/*/augment.py describes them."""
        channels, height, width = shape
        octets = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None, None], (256, channels, 1, 1))
        normalize = transforms.pop() if transforms and isinstance(transforms[-1], Normalize) else batch_last
        values = backend.rows(normalize(octets)).reshape(channels, 256)
        kernels = self._kernels
        steps, bounds, fills = [], [], []
        for transform in transforms:
            draw, fill = len(bounds), 0
            if isinstance(transform, RandomCrop):
                steps.append((kernels.CROP, draw, transform.padding))
                bounds += [2 * transform.padding + 1] * 2
                fill = fill_value("RandomCrop", transform.fill, octets)
            elif isinstance(transform, Cutout):
                steps.append((kernels.CUTOUT, draw, transform.size))
                bounds += [height, width]
                fill = fill_value("Cutout", transform.fill, octets)
            elif isinstance(transform, RandomHorizontalFlip):
                steps.append((kernels.FLIP, draw, round(transform.p * 2**32)))
                bounds.append(2**32)
            else:
                raise ValueError(
                    f"Loader: on a device, transforms are RandomCrop, RandomHorizontalFlip and Cutout, then Normalize; "
                    f"got {transform!r}: leave device=None"
                )
            fills.append(np.broadcast_to(np.reshape(fill, -1), channels))
        if len(bounds) > kernels.DRAWS:
            raise ValueError(
                f"Loader: on a device, transforms draw at most {kernels.DRAWS} numbers an image, got {len(bounds)}: "
                "leave device=None"
            )
        return (
            np.array(steps, np.int64).reshape(-1, 3),
            np.array(bounds, np.int64),
            np.array(fills, np.uint8).reshape(-1, channels),
            values,
        )
