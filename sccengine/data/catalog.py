"""Data sets by name: what `--dataset` and `load()` understand, and where each one's files are looked for."""

from __future__ import annotations

import os
from pathlib import Path

from sccengine.data.cifar import load_cifar10, load_cifar100
from sccengine.data.digits import load_digits
from sccengine.data.idx import load_mnist
from sccengine.data.image_folder import load_image_folder
from sccengine.data.npz import load_npz
from sccengine.data.synthetic import load_synthetic

# Complete without files.
_BUILT_IN = {"digits": load_digits, "synthetic": load_synthetic}
# Read from DATA_DIR/name. Reader, and where the files come from.
_INSTALLED = {
    "mnist": (
        load_mnist,
        "the four IDX files of MNIST (Y. LeCun, C. Cortes and C. Burges), plain or .gz",
    ),
    "fashion-mnist": (
        lambda folder: load_mnist(folder, "fashion-mnist"),
        "the four IDX files of Fashion-MNIST (zalandoresearch/fashion-mnist on GitHub), plain or .gz",
    ),
    "cifar10": (
        load_cifar10,
        "cifar-10-binary.tar.gz, the binary version on A. Krizhevsky's CIFAR page (University of Toronto; "
        "sccengine download cifar10 fetches it)",
    ),
    "cifar100": (
        load_cifar100,
        "cifar-100-binary.tar.gz, the binary version on A. Krizhevsky's CIFAR page (University of Toronto; "
        "sccengine download cifar100 fetches it)",
    ),
}
# Read from the path in the name.
_BY_PATH = ("npz:", "folder:")

NAMES = (*_BUILT_IN, *_INSTALLED, *(f"{prefix}PATH" for prefix in _BY_PATH))


def load(name, data_dir=None, *, image_size=None):
    """(train, test), two ImageDatasets.

    name        "digits", "synthetic" (nothing to install);
                "mnist", "fashion-mnist", "cifar10", "cifar100" (files in a folder of that name in the data folder);
                "npz:PATH", "folder:PATH" (your own)
    data_dir    the data folder; default: `data_folder()`
    image_size  for "folder:PATH" only: height and width to resize to; default 32

    Raises ValueError for an unknown name, FileNotFoundError that says which files belong where, and DataError
    for a file that is damaged or of another kind.
    """
    if not isinstance(name, str):
        raise TypeError(f"load: name must be a text, got {type(name).__name__}")
    prefix, colon, path = name.partition(":")
    if image_size is not None and prefix + colon != "folder:":
        raise ValueError(f'load: image_size is for "folder:PATH" only, got it with {name!r}')
    if name in _BUILT_IN:
        return _BUILT_IN[name]()
    if name in _INSTALLED:
        return _load_installed(name, data_folder(data_dir))
    if prefix + colon not in _BY_PATH:
        raise ValueError(f"load: unknown data set {name!r}; there are {', '.join(NAMES)}")
    if not path:
        raise ValueError(f"load: {name!r} needs a path after the colon")
    path = Path(path).expanduser()
    if prefix == "npz":
        return load_npz(path)
    return load_image_folder(path) if image_size is None else load_image_folder(path, image_size)


def data_folder(data_dir=None):
    """Where data sets are installed: `data_dir`, else SCCENGINE_DATA_DIR, else the platform's user data folder."""
    chosen = data_dir if data_dir is not None else os.environ.get("SCCENGINE_DATA_DIR") or None
    if chosen is not None:
        return Path(chosen).expanduser()
    from platformdirs import user_data_path

    return user_data_path("sccengine", appauthor=False)


def _load_installed(name, folder):
    reader, files = _INSTALLED[name]
    # A data folder that is itself called "mnist" is likely the one with the files.
    place = folder if folder.name == name and not (folder / name).is_dir() else folder / name
    try:
        return reader(place)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"data set {name!r} is not installed: {error}. Put {files}, into {place}, or name another "
            "data folder (data_dir, --data-dir or SCCENGINE_DATA_DIR). Without files there are digits and synthetic"
        ) from error
