"""Files that are either the old one or the new one, whatever happens while they are written.

The bytes go to a temporary file in the same folder, are flushed to the disk, and only then take the name: a process
killed at any moment, or a full disk, leaves the previous file untouched.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from pathlib import Path

_TEMPORARY = ".tmp"
_TEMPORARY_NAME = re.compile(r"\..+\.\d+\.tmp")


def is_path(value):
    """Whether a value says where a file is: text or a Path."""
    return isinstance(value, (str, os.PathLike))


def write_atomically(path, data):
    """Write `data` (bytes or str) to `path`. Raises OSError that names `path`; nothing is left behind then."""
    path = Path(path)
    # A random number, not the process's: machines may share a cache folder.
    temporary = path.with_name(f".{path.name}.{secrets.randbits(32)}{_TEMPORARY}")
    if isinstance(data, str):
        data = data.encode()
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        remove_if_there(temporary)
        raise OSError(error.errno, f"cannot write {path}: {error.strerror or error}") from error
    except BaseException:
        remove_if_there(temporary)
        raise


def write_json(path, value):
    """`value` as an indented JSON file, written atomically."""
    write_atomically(path, json.dumps(value, indent=2) + "\n")


def remove_temporaries(folder):
    """Remove what killed processes left half written in `folder`; who writes there meanwhile gets an OSError."""
    for path in Path(folder).glob(f".*{_TEMPORARY}"):
        if _TEMPORARY_NAME.fullmatch(path.name):
            remove_if_there(path)


def remove_if_there(path):
    """Delete a file, quietly if it is gone or cannot be deleted."""
    try:
        os.unlink(path)
    except OSError:
        pass


def _sync_folder(folder):
    """Make the rename itself last; Windows neither needs nor allows it."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
