"""MNIST and Fashion-MNIST in their own format, IDX: a big-endian header, then the raw bytes.

    byte 0, 1   zero            byte 2   type (8: unsigned byte)      byte 3   rank
    then        one uint32 per axis, big-endian                       then     the values, last axis fastest

Plain files and gzip are told apart by content.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from sccengine.data.dataset import ImageDataset
from sccengine.data.errors import mismatch
from sccengine.data.files import read_bytes
from sccengine.data.labels import check_counts, check_labels

CLASS_NAMES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": tuple("T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot".split(",")),
}
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_UNSIGNED_BYTE = 8
_CONTENTS = {1: "labels", 3: "images"}


def read_idx(path, rank):
    """The array in an IDX file of unsigned bytes, uint8 with `rank` axes; DataError for anything else."""
    content = read_bytes(path)
    magic = bytes((0, 0, _UNSIGNED_BYTE, rank))
    if content[:4] != magic:
        what = f"IDX {_CONTENTS.get(rank, 'data')} (magic number 0x{magic.hex()})"
        raise mismatch(path, what, _describe_start(content))
    header = 4 + 4 * rank
    if len(content) < header:
        raise mismatch(path, f"an IDX header of {header} bytes", f"{len(content)} bytes")
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, header, 4))
    size = header + math.prod(shape)
    if len(content) != size:
        sizes = " x ".join(str(n) for n in shape)
        raise mismatch(path, f"{size:,} bytes (its header says {sizes})", f"{len(content):,} bytes")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def load_mnist(folder, name="mnist"):
    """(train, test) of the four IDX files in `folder`, plain or with .gz; uint8 (N, 1, H, W).

    `name` is "mnist" or "fashion-mnist": their files have the same names and the same format, so it decides
    only the class names. Raises FileNotFoundError that lists what is missing, DataError for what is wrong
    with a file.
    """
    if name not in CLASS_NAMES:
        raise ValueError(f"load_mnist: name must be one of {', '.join(CLASS_NAMES)}; got {name!r}")
    folder = Path(folder)
    missing = [stem for stems in FILES.values() for stem in stems if _find(folder, stem) is None]
    if missing:
        raise FileNotFoundError(f"{folder}: no {', no '.join(missing)} (each plain or with .gz)")
    train, test = (_load_part(folder, name, part) for part in FILES)
    if train.image_shape != test.image_shape:
        raise mismatch(
            _find(folder, FILES["test"][0]),
            f"images of {_size(train)}, as for training",
            f"images of {_size(test)}",
        )
    return train, test


def _load_part(folder, name, part):
    image_path, label_path = (_find(folder, stem) for stem in FILES[part])
    images = read_idx(image_path, rank=3)
    labels = read_idx(label_path, rank=1)
    check_counts(image_path, len(images), label_path, len(labels))
    check_labels(label_path, labels, len(CLASS_NAMES[name]))
    if 0 in images.shape:
        raise mismatch(image_path, "images of at least one pixel", f"images of {images.shape[1]} x {images.shape[2]}")
    return ImageDataset(images[:, None], labels.astype(np.int64), CLASS_NAMES[name], f"{name}/{part}", str(folder))


def _find(folder, stem):
    return next((path for path in (folder / stem, folder / f"{stem}.gz") if path.exists()), None)


def _size(dataset):
    return "{1} x {2}".format(*dataset.image_shape)


def _describe_start(content):
    """What a file that is not the wanted IDX seems to be."""
    if not content:
        return "an empty file"
    if len(content) >= 4 and content[:3] == bytes((0, 0, _UNSIGNED_BYTE)):
        kind = _CONTENTS.get(content[3], f"rank {content[3]}")
        return f"IDX {kind} (magic number 0x{content[:4].hex()})"
    return f"a file that starts with {content[:8]!r}"
