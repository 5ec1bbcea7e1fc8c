"""Fetching the archives of CIFAR-10 and CIFAR-100: only when asked, and never used before their SHA-256 is right.

What arrives is written to NAME.part beside its destination and renamed when it is complete and checked, so there is
never half an archive under the final name. A transfer that breaks off leaves the .part, and the next one asks the
server for the rest; a wrong checksum leaves nothing.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from sccengine.data.catalog import data_folder
from sccengine.data.errors import mismatch

_CHUNK = 1 << 18
_TIMEOUT = 30  # seconds without a byte
_NOTHING_LEFT = 416  # the status of a server that is asked for bytes beyond the end


@dataclass(frozen=True)
class Archive:
    """A file on a server, and the SHA-256 of its content in hexadecimal digits."""

    url: str
    sha256: str

    @property
    def name(self):
        return self.url.rpartition("/")[2]


_CIFAR = "https://www.cs.toronto.edu/~kriz"
ARCHIVES = {
    "cifar10": Archive(
        f"{_CIFAR}/cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
    "cifar100": Archive(
        f"{_CIFAR}/cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    ),
}


def download(name, data_dir=None, progress=None):
    """The path of the archive of the data set `name` (one of ARCHIVES), fetched unless it is there already.

    data_dir   the data folder; default: that of `data_folder()`
    progress   None, or a function (bytes so far, bytes in all or None) called as they arrive

    Raises ValueError for an unknown name, RuntimeError if the server cannot be reached or breaks off (the same call
    goes on from there), and DataError if the archive is not the one that is known.
    """
    if name not in ARCHIVES:
        raise ValueError(f"download: unknown data set {name!r}; there are {', '.join(ARCHIVES)}")
    archive = ARCHIVES[name]
    return fetch(archive, data_folder(data_dir) / name / archive.name, progress)


def fetch(archive, path, progress=None):
    """`path`, where the content of `archive` then is; as `download`."""
    path = Path(path)
    if path.exists():
        if (found := _sha256(path)) != archive.sha256:
            hint = "Remove the file to fetch it anew"
            raise mismatch(path, f"SHA-256 {archive.sha256}", found, hint)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    _receive(archive.url, part, progress)
    if (found := _sha256(part)) != archive.sha256:
        part.unlink()
        hint = "Nothing of it was kept: try again, and if it stays so, the file on the server is another one"
        raise mismatch(archive.url, f"SHA-256 {archive.sha256}", found, hint)
    os.replace(part, path)
    return path


def _receive(url, part, progress):
    """Append to `part`, or write anew if the server does not continue, until the server's file has come whole."""
    here = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={here}-"} if here else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if here and error.code == _NOTHING_LEFT:
                return
            raise RuntimeError(f"{url}: the server answers {error.code} {error.reason}") from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise RuntimeError(f"{url}: the server cannot be reached ({reason}); is there a network?") from error
    with response:
        continues = response.status == 206 and (response.headers["Content-Range"] or "").startswith(f"bytes {here}-")
        here = here if continues else 0
        length = response.headers["Content-Length"]
        total = None if length is None else here + int(length)
        with open(part, "ab" if continues else "wb") as file:
            while chunk := _read(response, url, here):
                file.write(chunk)
                here += len(chunk)
                if progress is not None:
                    progress(here, total)
    if total is not None and here != total:
        raise _broken_off(url, f"after {here:,} of {total:,} bytes")


def _read(response, url, here):
    try:
        return response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _broken_off(url, f"after {here:,} bytes ({error})") from error


def _broken_off(url, when):
    return RuntimeError(f"{url}: the transfer broke off {when}. What has come is kept: try again to get the rest")


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
