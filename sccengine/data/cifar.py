"""CIFAR-10 and CIFAR-100 in their *binary* version: records of label bytes and 3,072 pixel bytes, no header.

    CIFAR-10    label, pixels                 10,000 a file: data_batch_1.bin ... data_batch_5.bin, test_batch.bin
    CIFAR-100   coarse, fine label, pixels    50,000 in train.bin, 10,000 in test.bin; the fine label is used

Pixels are the red, green and blue planes of a 32x32 image. The official files have exactly these sizes, and
with no header the size is the only sign of truncation, so it is enforced. Read from the unpacked files or
straight from the .tar.gz: members are read in memory by name and nothing is ever unpacked to disk, so a
hostile archive has no path to write to.
"""

from __future__ import annotations

import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sccengine.data.dataset import ImageDataset
from sccengine.data.errors import mismatch
from sccengine.data.files import read_bytes
from sccengine.data.labels import check_labels

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Layout:
    """Where the parts of one CIFAR are: `train` and `test` map file names to numbers of records.

    A record starts with `label_bytes` bytes of labels, of which the last one counts.
    """

    name: str
    train: dict[str, int]
    test: dict[str, int]
    label_bytes: int
    folder: str
    archive: str
    foreign: tuple[str, str]
    class_names: tuple[str, ...]


CIFAR10 = Layout(
    name="cifar10",
    train={f"data_batch_{i}.bin": 10_000 for i in range(1, 6)},
    test={"test_batch.bin": 10_000},
    label_bytes=1,
    folder="cifar-10-batches-bin",
    archive="cifar-10-binary.tar.gz",
    foreign=("cifar-10-batches-py", "cifar-10-python.tar.gz"),
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)
CIFAR100 = Layout(
    name="cifar100",
    train={"train.bin": 50_000},
    test={"test.bin": 10_000},
    label_bytes=2,
    folder="cifar-100-binary",
    archive="cifar-100-binary.tar.gz",
    foreign=("cifar-100-python", "cifar-100-python.tar.gz"),
    class_names=tuple(
        """
        apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel
        can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
        dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion
        lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter
        palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road
        rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower
        sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
        willow_tree wolf woman worm
        """.split()
    ),
)


def load_cifar10(path):
    """(train, test) with ten classes: 50,000 and 10,000 images; `path` as for `load_cifar`."""
    return load_cifar(path, CIFAR10)


def load_cifar100(path):
    """(train, test) with the 100 fine classes: 50,000 and 10,000 images; `path` as for `load_cifar`."""
    return load_cifar(path, CIFAR100)


def load_cifar(path, layout):
    """(train, test) of the CIFAR described by `layout`, uint8 (N, 3, 32, 32).

    `path` is the .tar.gz of the binary version, or the folder of .bin files, or a folder that holds either
    under its official name. Raises FileNotFoundError that lists what is missing, DataError for what is wrong
    with a file.
    """
    path = Path(path)
    if path.is_file():
        read = _archive_reader(path, layout)
    else:
        folder = next(
            (f for f in (path, path / layout.folder) if any((f / name).is_file() for name in _files(layout))),
            None,
        )
        if folder is not None:
            read = _folder_reader(folder, layout)
        elif (path / layout.archive).is_file():
            read = _archive_reader(path / layout.archive, layout)
        else:
            raise FileNotFoundError(_missing_message(path, layout))
    train, test = (_load_part(read, layout, part, str(path)) for part in ("train", "test"))
    return train, test


def _files(layout):
    """File name -> size in bytes."""
    record = layout.label_bytes + _PIXELS
    return {name: records * record for name, records in (layout.train | layout.test).items()}


def _missing_message(path, layout):
    message = (
        f"{path}: no {layout.archive} and no {', '.join(_files(layout))} (in that folder or in {layout.folder}) there"
    )
    foreign = [name for name in layout.foreign if (path / name).exists()]
    if foreign:
        message += f". {foreign[0]} is the pickled Python version, which is not read here: get the binary version"
    return message


def _folder_reader(folder, layout):
    """A function: file name -> (how to name it in an error, its bytes)."""
    missing = [name for name in _files(layout) if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder}: no {', no '.join(missing)}")
    return lambda name: (folder / name, read_bytes(folder / name))


def _archive_reader(path, layout):
    """The same from an archive: regular members of the right name and size are read, into memory only."""
    sizes = _files(layout)
    contents = {}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name not in sizes or name in contents or not member.isfile():
                    continue
                if member.size != sizes[name]:
                    raise _wrong_size(f"{path}:{member.name}", sizes[name], member.size)
                contents[name] = archive.extractfile(member).read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        found = f"one that cannot be read on ({error}) after {len(contents)} of {len(sizes)} files"
        raise mismatch(path, f"a complete archive such as {layout.archive}", found) from error
    missing = [name for name in sizes if name not in contents]
    if missing:
        hint = "The Python (pickled) version is not read here: get the binary version" if not contents else None
        raise mismatch(path, f"an archive with {', '.join(sizes)}", f"no {', no '.join(missing)}", hint)
    return lambda name: (f"{path}:{name}", contents[name])


def _wrong_size(path, expected, found):
    return mismatch(path, f"{expected:,} bytes", f"{found:,} bytes", "The file is cut short or not of this data set")


def _load_part(read, layout, part, source):
    records = []
    for name, count in getattr(layout, part).items():
        path, content = read(name)
        size = count * (layout.label_bytes + _PIXELS)
        if len(content) != size:
            raise _wrong_size(path, size, len(content))
        table = np.frombuffer(content, np.uint8).reshape(count, -1)
        check_labels(path, table[:, layout.label_bytes - 1], len(layout.class_names))
        records.append(table)
    table = np.concatenate(records)
    images = np.ascontiguousarray(table[:, layout.label_bytes :]).reshape(-1, *_SHAPE)
    labels = table[:, layout.label_bytes - 1].astype(np.int64)
    return ImageDataset(images, labels, layout.class_names, f"{layout.name}/{part}", source)
