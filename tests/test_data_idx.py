"""MNIST's format, from files written here byte by byte."""

import gzip
import struct

import numpy as np
import pytest

from sccengine.data import DataError, load_mnist
from sccengine.data.idx import read_idx


def images_file(images):
    return struct.pack(">IIII", 0x803, *images.shape) + images.tobytes()


def labels_file(labels):
    return struct.pack(">II", 0x801, len(labels)) + bytes(labels)


@pytest.fixture
def folder(tmp_path):
    """Twelve training and six test images of 5 x 4 pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (18, 5, 4)).astype(np.uint8)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(images_file(pixels[:12]))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(labels_file([i % 10 for i in range(12)]))
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(images_file(pixels[12:])))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels_file([9, 8, 7, 6, 5, 4])))
    return tmp_path


def test_reads_plain_and_gzip(folder):
    pixels = np.random.default_rng(0).integers(0, 256, (18, 5, 4)).astype(np.uint8)
    train, test = load_mnist(folder)
    assert train.images.shape == (12, 1, 5, 4) and test.images.shape == (6, 1, 5, 4)
    assert np.array_equal(train.images[:, 0], pixels[:12]) and np.array_equal(test.images[:, 0], pixels[12:])
    assert train.labels.tolist() == [*range(10), 0, 1] and test.labels.tolist() == [9, 8, 7, 6, 5, 4]
    assert (train.name, test.name) == ("mnist/train", "mnist/test")


def test_fashion_has_its_own_class_names(folder):
    train, _ = load_mnist(folder, "fashion-mnist")
    assert train.class_names[0] == "T-shirt/top" and train.class_names[9] == "Ankle boot"
    assert len(train.class_names) == 10 and train.name == "fashion-mnist/train"
    with pytest.raises(ValueError, match="must be one of mnist, fashion-mnist; got 'kmnist'"):
        load_mnist(folder, "kmnist")


def test_missing_files_are_all_named(folder):
    (folder / "train-labels-idx1-ubyte").unlink()
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="no train-labels-idx1-ubyte, no t10k-images-idx3-ubyte .*with .gz"):
        load_mnist(folder)


IMAGES = "train-images-idx3-ubyte"
LABELS = "train-labels-idx1-ubyte"
TWELVE = images_file(np.zeros((12, 5, 4), np.uint8))


@pytest.mark.parametrize(
    "name, content, message",
    [
        (IMAGES, TWELVE[:-1], r"256 bytes \(its header says 12 x 5 x 4\), found 255 bytes"),
        (IMAGES, TWELVE + b"\0", "256 bytes .*, found 257 bytes"),
        (IMAGES, TWELVE[:10], "IDX header of 16 bytes, found 10 bytes"),
        (IMAGES, TWELVE[:3], "IDX images .magic number 0x00000803., found a file that starts with"),
        (IMAGES, b"", "found an empty file"),
        (IMAGES, b"<!DOCTYPE html>", "found a file that starts with b'<!DOCTYP'"),
        (IMAGES, labels_file([0] * 12), r"IDX images .*0x00000803., found IDX labels .magic number 0x00000801"),
        (LABELS, TWELVE, r"IDX labels .*0x00000801., found IDX images"),
        (IMAGES, b"\0\0\x0d\x03" + TWELVE[4:], "found a file that starts with"),
        (IMAGES, TWELVE[:4][::-1] + TWELVE[4:], "found a file that starts with"),
        (IMAGES, b"\0\0\x08\x03" + b"\xff" * 12, "its header says 4294967295 x 4294967295 x 4294967295"),
        (IMAGES, images_file(np.zeros((12, 0, 4), np.uint8)), "at least one pixel, found images of 0 x 4"),
        (IMAGES, images_file(np.zeros((11, 5, 4), np.uint8)), r"has labels \(12\), found 11 images"),
        (LABELS, labels_file([0] * 13), r"has labels \(13\), found 12 images"),
        (LABELS, labels_file([0] * 7 + [10] + [0] * 4), r"labels in 0 ... 9, found label 10 \(first at position 7\)"),
        (
            IMAGES,
            images_file(np.zeros((12, 5, 5), np.uint8)),
            "images of 5 x 5, as for training, found images of 5 x 4",
        ),
        (IMAGES, gzip.compress(TWELVE)[:-9], "a complete gzip file"),
    ],
)
def test_bad_files(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_mnist(folder)
    assert str(folder) in str(caught.value)


def test_no_images_at_all(folder):
    (folder / IMAGES).write_bytes(images_file(np.zeros((0, 5, 4), np.uint8)))
    (folder / LABELS).write_bytes(labels_file([]))
    with pytest.raises(DataError, match="at least one image, found none"):
        load_mnist(folder)


def test_read_idx_of_any_rank(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
    (tmp_path / "a").write_bytes(struct.pack(">IIIII", 0x804, *array.shape) + array.tobytes())
    assert np.array_equal(read_idx(tmp_path / "a", rank=4), array)
    with pytest.raises(DataError, match="found IDX rank 4"):
        read_idx(tmp_path / "a", rank=3)
