"""Reading a data file whole, plain or gzip, with one kind of error for all that can be wrong."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from sccengine.data.errors import mismatch

GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 20
_MOST_BYTES = 4 << 30


def require_file(path):
    """`path` as a Path to an existing regular file; FileNotFoundError or DataError otherwise."""
    path = Path(path)
    if path.is_dir():
        raise mismatch(path, "a file", "a folder")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    return path


def read_bytes(path):
    """All bytes of the file at `path`, unpacked if its content (not its name) is gzip.

    Browsers unpack a download and keep its .gz name, so the name is no evidence. Reading goes chunk by chunk:
    a small file that claims to unpack to more than 4 GiB is refused before it fills the memory.
    """
    path = require_file(path)
    with open(path, "rb") as file:
        if file.read(2) != GZIP_MAGIC:
            file.seek(0)
            return file.read()
    content = bytearray()
    try:
        with gzip.open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                content += chunk
                if len(content) > _MOST_BYTES:
                    raise mismatch(path, f"at most {_MOST_BYTES:,} bytes of data", "more than that under gzip")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        found = f"one that stops being valid after {len(content):,} unpacked bytes ({error})"
        raise mismatch(path, "a complete gzip file", found, "Its download may have been cut short") from error
    return bytes(content)
