"""A folder of images, one sub-folder a class:

    PATH/cat/1.jpg  PATH/cat/2.png  PATH/dog/1.jpg ...       a fixed, stratified fifth becomes the test part
    PATH/train/cat/1.jpg ...  PATH/test/cat/7.jpg ...        both parts given (val also counts as test)

Classes are the sub-folders' names, sorted. Every image is turned upright (EXIF), converted to RGB, cut
centrally to the target's proportions and resized to image_size x image_size (bilinear with antialiasing).
Needs Pillow.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sccengine import numeric
from sccengine.data.dataset import ImageDataset
from sccengine.data.errors import DataError, mismatch
from sccengine.data.files import require_file

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
_MOST_NAMED = 5


def load_image_folder(path, image_size=32):
    """(train, test) of the images under `path`; uint8 (N, 3, image_size, image_size).

    Raises FileNotFoundError, or DataError that names the files that are no images or the folder that has
    none, and ImportError without Pillow. Files whose names start with a dot, or without an image's suffix,
    are passed over.
    """
    image_size = numeric.whole("load_image_folder", "image_size", image_size)
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such folder")
    if not path.is_dir():
        raise mismatch(path, "a folder with one sub-folder of images for each class", "a file")
    held_out = next((path / name for name in ("test", "val") if (path / name).is_dir()), None)
    if not (path / "train").is_dir() or held_out is None:
        classes = _classes(path)
        return _load(path, classes, image_size, "folder", path).split()
    classes = _classes(path / "train")
    foreign = [name for name in _classes(held_out) if name not in classes]
    if foreign:
        raise mismatch(held_out, f"the classes of {path / 'train'} ({', '.join(classes)})", ", ".join(foreign))
    return (
        _load(path / "train", classes, image_size, "folder/train", path),
        _load(held_out, classes, image_size, "folder/test", path),
    )


def read_image(path, height, width, channels=3):
    """One image file as uint8 (channels, height, width), prepared as in `load_image_folder` (1 or 3 channels).

    Raises ValueError for invalid sizes, ImportError without Pillow, FileNotFoundError, and DataError for a file that is
    not an image.
    """
    height, width = (numeric.whole("read_image", "height and width", size) for size in (height, width))
    if channels not in (1, 3):
        raise ValueError(f"read_image: channels must be 1 or 3, got {channels!r}")
    return _read(_pillow(), require_file(path), height, width, "L" if channels == 1 else "RGB")


def _pillow():
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError('Reading image files needs Pillow: pip install "sccengine[images]"') from error
    return Image, ImageOps


def _classes(path):
    names = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(names) < 2:
        found = f"only {names[0]}" if names else "none"
        raise mismatch(path, "at least two sub-folders, one of images for each class", found)
    return tuple(names)


def _load(path, classes, image_size, name, source):
    from_pillow = _pillow()
    images, labels, errors = [], [], []
    for label, class_name in enumerate(classes):
        folder = path / class_name
        if not folder.is_dir():
            continue
        files = sorted(
            file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
        )
        if not files:
            raise mismatch(folder, f"images ({' '.join(SUFFIXES)})", _describe_folder(folder))
        for file in files:
            try:
                images.append(_read(from_pillow, file, image_size, image_size, "RGB"))
                labels.append(label)
            except DataError as error:
                errors.append(str(error))
    if errors:
        more = f"\nand {len(errors) - _MOST_NAMED:,} more" if len(errors) > _MOST_NAMED else ""
        raise DataError("\n".join(errors[:_MOST_NAMED]) + more)
    return ImageDataset(np.stack(images), np.array(labels, np.int64), classes, name, str(source))


def _read(from_pillow, path, height, width, mode):
    """uint8 (C, height, width) of one file."""
    Image, ImageOps = from_pillow
    if path.is_dir():
        raise mismatch(path, "an image", "a folder")
    try:
        with Image.open(path) as image:
            found_mode = image.mode
            if found_mode not in ("I", "F") and not found_mode.startswith("I;"):
                upright = ImageOps.exif_transpose(image).convert(mode)
                fitted = ImageOps.fit(upright, (width, height), Image.Resampling.BILINEAR)
                pixels = np.asarray(fitted, np.uint8)
                return np.ascontiguousarray(pixels[None] if mode == "L" else pixels.transpose(2, 0, 1))
    # Pillow's decoders raise nearly anything on damaged files (SyntaxError, struct.error, EOFError, ...).
    except Exception as error:
        raise mismatch(path, "an image", f"a file that Pillow cannot read ({type(error).__name__}: {error})") from error
    raise mismatch(path, "8 bits a channel", f"pixels of mode {found_mode}", "Convert it to an 8-bit image first")


def _describe_folder(folder):
    names = sorted(entry.name for entry in folder.iterdir())
    if not names:
        return "an empty folder"
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
