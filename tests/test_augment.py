"""Batches made on a device: the bits of the host's, from any position; which data sets and transforms are refused."""

import numpy as np
import pytest

from sccengine.data import (
    Compose,
    Cutout,
    ImageDataset,
    Loader,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    augmentation,
)
from tests.checks import augment as checks

STEPS = [RandomCrop(1), RandomHorizontalFlip(), Cutout(2), Normalize(0.5, 0.25)]


def dataset(count=23):
    images = np.random.default_rng(0).integers(0, 256, (count, 2, 4, 3), np.uint8)
    return ImageDataset(images, np.arange(count, dtype=np.int64) % 5, tuple("abcde"), "noise")


@pytest.mark.parametrize("case", checks.CASES, ids=str)
def test_matches_the_transforms(case):
    checks.check("cpu", case, "float32")


def test_a_batch_does_not_share_memory_with_the_next_or_the_data_set():
    loader = Loader(dataset(), 4, device="cpu")
    (first, labels), (second, _) = list(loader)[:2]
    assert not np.shares_memory(first, second)
    labels[:] = 7
    assert loader.dataset.labels.max() == 4


@pytest.mark.parametrize("devices", [("cpu", None), (None, "cpu"), ("cpu", "cpu")])
def test_a_position_is_one_on_every_device(devices):
    before, after = (Loader(dataset(), 5, shuffle=True, seed=9, transforms=STEPS, device=d) for d in devices)
    whole = list(Loader(dataset(), 5, shuffle=True, seed=9, transforms=STEPS))
    for _ in zip(range(2), before):
        pass
    after.load_state_dict(before.state_dict())
    rest = list(after)
    assert len(rest) == 5 - before.batch
    for (images, labels), (want, want_labels) in zip(rest, whole[before.batch :]):
        np.testing.assert_array_equal(images, want)
        np.testing.assert_array_equal(labels, want_labels)


def test_nested_transforms():
    nested = Compose(Compose(RandomCrop(1), None), Compose(RandomHorizontalFlip(), Normalize(0.5, 0.25)))
    want, got = (Loader(dataset(), 23, transforms=nested, device=device) for device in (None, "cpu"))
    np.testing.assert_array_equal(next(iter(got))[0], next(iter(want))[0])


def _brighten(images, draws):
    return images


@pytest.mark.parametrize(
    "transforms, message",
    [
        ([_brighten], "on a device, transforms are RandomCrop, .* then Normalize; got <function _brighten"),
        ([Normalize(0.5, 0.5), RandomCrop(1)], r"then Normalize; got Normalize\(mean=\(0.5,\)"),
        ([RandomCrop(1)] * 9, "draw at most 16 numbers an image, got 18"),
        ([RandomCrop(1, fill=0.5)], "RandomCrop: fill must be whole"),
        ([Cutout(1, fill=(1, 2, 3))], "Cutout: fill has 3 numbers, got images with 2 channels"),
        ([Normalize((0.5,) * 3, (0.5,) * 3)], "Normalize: constants for 3 channels, got images with 2"),
    ],
)
def test_refused_transforms(transforms, message):
    with pytest.raises(ValueError, match=message):
        Loader(dataset(), 5, transforms=transforms, device="cpu")


def test_refused_data_sets_and_devices(monkeypatch):
    with pytest.raises(ValueError, match="unknown device 'gpu'"):
        Loader(dataset(), 5, device="gpu")
    monkeypatch.setattr(augmentation, "_PIXELS", 23 * 24)
    with pytest.raises(ValueError, match="has 552 bytes of pixels; on a device it must have fewer than 552"):
        Loader(dataset(), 5, device="cpu")
