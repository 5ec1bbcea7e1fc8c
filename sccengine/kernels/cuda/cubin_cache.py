"""Machine code on disk: one file for each kernel, list of types, GPU generation and compiler.

A file is named by a hash of everything its content depends on, and holds its own checksum. It is written beside its
place and renamed, so that a reader sees all of it or nothing, whichever processes write at the same time. What is
damaged all the same, by a full disk or a power cut, counts as absent and is written again. The LIMIT files used last
are kept. Without a writable folder nothing is kept, and nothing else changes.
"""

import functools
import hashlib
import os
import tempfile

from sccengine.kernels.cache_folder import cache_root, writable

# A file takes 5 to 100 KB; every kernel of this package in both dtypes takes some 150 files.
LIMIT = 1000

_DIGEST = 32


@functools.cache
def folder():
    """The folder of the files, or None where it cannot be written."""
    return writable(cache_root() / "cuda")


def load(key):
    """The bytes stored under `key`, or None."""
    path = _path(key)
    try:
        content = path.read_bytes()
        os.utime(path)
    except (OSError, AttributeError):  # AttributeError: there is no folder
        return None
    checksum, data = content[:_DIGEST], content[_DIGEST:]
    return data if hashlib.sha256(data).digest() == checksum else None


def store(key, data):
    """Keeps `data` under `key` if the disk allows."""
    path = _path(key)
    if path is None:
        return
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".new")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(data).digest() + data)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        _forget_the_oldest(path.parent)
    except OSError:
        pass


def size():
    """(number of files, their bytes)."""
    sizes = [entry.stat().st_size for entry in os.scandir(folder())] if folder() else []
    return len(sizes), sum(sizes)


def _path(key):
    return folder() and folder() / f"{key}.cubin"


def _forget_the_oldest(where):
    # Files of writers that were killed (.new) go the same way.
    entries = sorted(os.scandir(where), key=lambda entry: entry.stat().st_mtime, reverse=True)
    for entry in entries[LIMIT:]:
        os.unlink(entry.path)
