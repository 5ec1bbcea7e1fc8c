"""The loader of a data set on a device: to the bit the batches that the transforms make on the host."""

import numpy as np

from sccengine import backend
from sccengine.data import Cutout, ImageDataset, Loader, Normalize, RandomCrop, RandomHorizontalFlip
from tests.checks import generator

CASES = [
    {"shape": (5, 2, 3, 4), "batch": 2, "transforms": (), "small": True},
    {"shape": (6, 1, 1, 1), "batch": 6, "transforms": (Normalize(0.4, 0.3),), "small": True},
    {
        "shape": (7, 3, 4, 3),
        "batch": 5,
        "transforms": (
            RandomCrop(1, fill=(1, 2, 255)),
            RandomHorizontalFlip(),
            Cutout(2, fill=9),
            Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)),
        ),
        "small": True,
    },
    # Another order, chances of 0 and 1, a crop and a square larger than the image.
    {
        "shape": (6, 2, 2, 5),
        "batch": 6,
        "transforms": (Cutout(7, fill=3), RandomHorizontalFlip(1), RandomHorizontalFlip(0), RandomCrop(3)),
        "small": True,
    },
    {
        "shape": (150, 3, 32, 32),
        "batch": 67,
        "transforms": (RandomCrop(4), RandomHorizontalFlip(), Cutout(16), Normalize((0.5,) * 3, (0.25,) * 3)),
    },
]


def check(device, case, dtype):
    """Batches are float32 whatever the dtype."""
    random = generator({**case, "transforms": repr(case["transforms"])})
    images = random.integers(0, 256, case["shape"], np.uint8)
    dataset = ImageDataset(images, random.integers(0, 3, len(images)), ("a", "b", "c"), "noise")
    settings = {"shuffle": True, "seed": 2**63 + 5, "transforms": list(case["transforms"])}
    want, got = (Loader(dataset, case["batch"], device=d, **settings) for d in (None, device))
    for _ in range(2):
        for (images, labels), (device_images, device_labels) in zip(want, got, strict=True):
            for array in (device_images, device_labels):
                assert backend.device_of(array) == backend.resolve_device(device)
            assert device_images.dtype == np.float32
            assert backend.owner(backend.rows(device_images)) is backend.owner(device_images)
            assert backend.to_host(device_images).tobytes() == images.tobytes()
            np.testing.assert_array_equal(backend.to_host(device_labels), labels)
