"""ImageDataset: its checks, splits and statistics."""

import numpy as np
import pytest

from sccengine.data import ImageDataset


def make(count=30, classes=3, shape=(2, 4, 5), name="toy"):
    images = np.random.default_rng(0).integers(0, 256, (count, *shape)).astype(np.uint8)
    labels = np.arange(count, dtype=np.int64) % classes
    return ImageDataset(images, labels, tuple("abcdefgh"[:classes]), name, "made up")


def test_shape_and_text():
    dataset = make()
    assert len(dataset) == 30 and dataset.image_shape == (2, 4, 5) and dataset.num_classes == 3
    assert repr(dataset) == "ImageDataset('toy': 30 images, 2 x 4 x 5, 3 classes)"


def test_read_only():
    dataset = make()
    with pytest.raises(ValueError, match="read-only"):
        dataset.images[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        dataset.labels[0] = 0
    with pytest.raises(AttributeError):
        dataset.name = "other"


GOOD = {"images": np.zeros((4, 1, 2, 2), np.uint8), "labels": np.zeros(4, np.int64), "class_names": ("a", "b")}


@pytest.mark.parametrize(
    "bad, error, message",
    [
        ({"images": [[0]]}, TypeError, "images must be a NumPy array, got list"),
        ({"images": np.zeros((4, 1, 2, 2))}, TypeError, "images must have dtype uint8, got float64"),
        ({"images": np.zeros((4, 2, 2), np.uint8)}, ValueError, r"shape \(N, C, H, W\).*got \(4, 2, 2\)"),
        ({"images": np.zeros((4, 1, 0, 2), np.uint8)}, ValueError, "no empty axis"),
        ({"labels": np.zeros(4, np.int32)}, TypeError, "labels must have dtype int64, got int32"),
        ({"labels": np.zeros(3, np.int64)}, ValueError, r"labels must have shape \(4,\).*got \(3,\)"),
        ({"labels": np.array([0, 1, 2, 0])}, ValueError, r"in 0 ... 1 \(2 class names\), got 0 ... 2"),
        ({"labels": np.array([0, -1, 1, 0])}, ValueError, "got -1 ... 1"),
        ({"class_names": ("a", "a")}, ValueError, "different strings"),
        ({"class_names": (0, 1)}, ValueError, "different strings"),
    ],
)
def test_bad_arrays(bad, error, message):
    with pytest.raises(error, match=message) as caught:
        ImageDataset(**(GOOD | bad), name="toy")
    assert "'toy'" in str(caught.value)


def test_subset_keeps_order_and_classes():
    dataset = make()
    part = dataset.subset([5, 2, 2], "part")
    assert np.array_equal(part.images, np.stack([dataset.images[i] for i in (5, 2, 2)]))
    assert part.labels.tolist() == [2, 2, 2] and part.class_names == dataset.class_names and part.name == "part"
    for indices, message in (([], "non-empty"), ([0.5], "integers"), ([30], "0 ... 29, got 30"), ([-1], "got -1")):
        with pytest.raises(ValueError, match=message):
            dataset.subset(indices)


def test_split_is_stratified_complete_and_seeded():
    images = np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1)
    labels = np.array([0] * 70 + [1] * 28 + [2] * 2, np.int64)
    dataset = ImageDataset(images, labels, ("a", "b", "c"), "toy")
    train, test = dataset.split(0.2, seed=3)
    kept, held = train.images.ravel().tolist(), test.images.ravel().tolist()
    assert sorted(kept + held) == list(range(100))
    assert kept == sorted(kept) and held == sorted(held)
    assert np.bincount(test.labels).tolist() == [14, 6, 1]
    assert held == dataset.split(0.2, seed=3)[1].images.ravel().tolist()
    assert held != dataset.split(0.2, seed=4)[1].images.ravel().tolist()
    assert (train.name, test.name) == ("toy/train", "toy/test")


def test_split_never_empties_a_class():
    dataset = make(count=7, classes=4)  # classes of 2, 2, 2 and 1 images
    train, test = dataset.split(0.9)
    assert set(train.labels.tolist()) == {0, 1, 2, 3} and set(test.labels.tolist()) == {0, 1, 2}


def test_bad_splits():
    with pytest.raises(ValueError, match="fraction must be between 0 and 1, got 1"):
        make().split(1)
    with pytest.raises(ValueError, match="no class of ImageDataset 'toy' has two images"):
        make(count=3, classes=3).split()


def test_channel_statistics():
    dataset = make(count=1_100)
    mean, std = dataset.channel_statistics()
    pixels = dataset.images.astype(np.float64) / 255
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 2, 3)), rtol=1e-12)
