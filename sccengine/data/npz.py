"""Images from a NumPy .npz archive, never unpickled.

Keys, in one of two sets:

    x_train, y_train, x_test, y_test    both parts given (the names that Keras' files have)
    images, labels                      one set: a fixed, stratified fifth of it becomes the test part

and, optionally,

    class_names     text, one an class; else "0", "1", ... up to the largest label
    layout          the text "NCHW" or "NHWC", for images of four axes

Images are uint8 (N, H, W), or of four axes. Without `layout`, the axis that has 1 to 4 entries is the channel
axis; if both the second and the last do, or neither, `layout` is needed. Labels are integers (N,) or (N, 1),
from 0 up.
"""

from __future__ import annotations

import zipfile
import zlib

import numpy as np

from sccengine.data.dataset import ImageDataset
from sccengine.data.errors import mismatch
from sccengine.data.files import require_file
from sccengine.data.labels import check_counts, check_labels

_PAIRS = {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")}
_WHOLE = ("images", "labels")
_MOST_CHANNELS = 4
# What NumPy and zipfile raise on damaged, encrypted, pickled or absurdly large members.
_READING_ERRORS = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


def load_npz(path):
    """(train, test) of the archive at `path`; the keys are in this module's description.

    Raises FileNotFoundError, or DataError that names the file and the key.
    """
    arrays = _read_arrays(path)
    wanted = [key for pair in _PAIRS.values() for key in pair]
    if all(key in arrays for key in wanted):
        parts = _PAIRS
    elif all(key in arrays for key in _WHOLE):
        parts = {"all": _WHOLE}
    else:
        raise mismatch(
            path,
            f"keys {', '.join(wanted)} or {', '.join(_WHOLE)}",
            f"keys {', '.join(sorted(arrays))}" if arrays else "an archive without arrays",
        )
    layout = _text(path, arrays, "layout", ndim=0)
    images = {part: _images(path, keys[0], arrays[keys[0]], layout) for part, keys in parts.items()}
    labels = {part: _labels(path, keys[1], arrays[keys[1]]) for part, keys in parts.items()}
    for part, (image_key, label_key) in parts.items():
        check_counts(f"{path}[{image_key}]", len(images[part]), f"{path}[{label_key}]", len(labels[part]))
    names = _class_names(path, arrays, parts, labels)
    for part, (_, label_key) in parts.items():
        check_labels(f"{path}[{label_key}]", labels[part], len(names))
    shapes = {part: array.shape[1:] for part, array in images.items()}
    if len(set(shapes.values())) > 1:
        train, test = shapes["train"], shapes["test"]
        raise mismatch(f"{path}[x_test]", f"images of (C, H, W) = {train}, as x_train has", f"{test}")
    sets = {
        part: ImageDataset(images[part], labels[part], names, "npz" if part == "all" else f"npz/{part}", str(path))
        for part in parts
    }
    return sets["all"].split() if "all" in sets else (sets["train"], sets["test"])


def _read_arrays(path):
    """Key -> array of every array in the archive that is of use here."""
    path = require_file(path)
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            start = file.read(8)
        raise mismatch(path, "a complete .npz archive", f"a file that starts with {start!r} and has no archive index")
    useful = {*_WHOLE, *(key for pair in _PAIRS.values() for key in pair), "class_names", "layout"}
    arrays = {}
    key = None
    try:
        with np.load(path, allow_pickle=False) as archive:
            for key in archive.files:
                arrays[key] = archive[key] if key in useful else None
    except _READING_ERRORS as error:
        where = f"{path}[{key}]" if key else path
        expected = "an array of plain numbers or text (Python objects are never loaded)"
        raise mismatch(where, expected, f"one that cannot be read: {error}") from error
    return arrays


def _text(path, arrays, key, ndim):
    """The text array under an optional key: None, a str (ndim 0) or a tuple of str (ndim 1)."""
    if key not in arrays:
        return None
    array = arrays[key]
    if not isinstance(array, np.ndarray) or array.dtype.kind != "U" or array.ndim != ndim:
        kind = "one text" if ndim == 0 else "a row of texts"
        raise mismatch(f"{path}[{key}]", kind, _describe(array))
    return str(array) if ndim == 0 else tuple(str(text) for text in array)


def _images(path, key, array, layout):
    """uint8 (N, C, H, W) from (N, H, W), NHWC or NCHW."""
    where = f"{path}[{key}]"
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
        hint = "For images x in 0 ... 1 save (x * 255).round().astype(np.uint8)"
        raise mismatch(where, "uint8 images, 0 ... 255", _describe(array), hint)
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise mismatch(where, "images of shape (N, H, W), (N, H, W, C) or (N, C, H, W)", _describe(array))
    if array.ndim == 3:
        return array[:, None]
    if layout is None:
        first, last = array.shape[1] <= _MOST_CHANNELS, array.shape[3] <= _MOST_CHANNELS
        if first == last:
            which = "both the second and the last axis" if first else "neither the second nor the last axis"
            raise mismatch(
                where,
                f"one channel axis of 1 to {_MOST_CHANNELS} entries",
                f"{_describe(array)}, where {which} could be it",
                'Add a key layout = "NCHW" or "NHWC"',
            )
        layout = "NCHW" if first else "NHWC"
    if layout not in ("NCHW", "NHWC"):
        raise mismatch(f"{path}[layout]", 'the text "NCHW" or "NHWC"', repr(layout))
    return array if layout == "NCHW" else np.ascontiguousarray(array.transpose(0, 3, 1, 2))


def _labels(path, key, array):
    """int64 (N,) from integers (N,) or (N, 1)."""
    where = f"{path}[{key}]"
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu":
        raise mismatch(where, "integer labels", _describe(array))
    if array.ndim not in (1, 2) or array.shape[1:] not in ((), (1,)):
        raise mismatch(where, "labels of shape (N,) or (N, 1)", _describe(array))
    return array.reshape(-1).astype(np.int64)


def _class_names(path, arrays, parts, labels):
    names = _text(path, arrays, "class_names", ndim=1)
    if names is not None:
        if len(set(names)) != len(names):
            raise mismatch(f"{path}[class_names]", "different names", f"{', '.join(names)}")
        return names
    # There cannot be more classes than images: a stray huge label must not make names for a billion classes.
    total = sum(len(array) for array in labels.values())
    for part, (_, label_key) in parts.items():
        check_labels(f"{path}[{label_key}]", labels[part], total)
    return tuple(str(label) for label in range(1 + max(int(array.max()) for array in labels.values())))


def _describe(array):
    if not isinstance(array, np.ndarray):
        return type(array).__name__
    return f"{array.dtype} of shape {array.shape}"
