"""One process a run directory: an operating-system lock on ``run.lock``, held while a run writes there.

The system drops the lock when its process ends, however it ends, so a dead process never keeps a run from being
resumed and no process number has to be trusted. What stands in the file only makes the message helpful.
"""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from pathlib import Path

from sccengine.training.errors import RunDirectoryError

FILE_NAME = "run.lock"


@contextmanager
def lock_run(folder):
    """Hold the lock of the run in `folder` (which exists). Raises RunDirectoryError if another process has it."""
    path = Path(folder) / FILE_NAME
    try:
        file = open(path, "a+")
    except OSError as error:
        raise RunDirectoryError(f"cannot write in {folder}: {error.strerror}") from error
    with file:
        if not try_lock(file):
            file.seek(0)
            owner = file.read().strip() or "another process"
            raise RunDirectoryError(f"{folder} is in use by {owner}; wait for it, or choose another folder")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def try_lock(file):
    """True if the lock on `file` (open) is ours now; the system releases it when the file is closed."""
    if os.name == "nt":
        import msvcrt

        # Beyond the text, so that others can still read who holds it.
        file.seek(1 << 20)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
