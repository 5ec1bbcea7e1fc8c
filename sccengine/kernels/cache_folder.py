"""Where compiled kernels are kept between runs, for both backends."""

import os
import tempfile
from pathlib import Path


def cache_root():
    """$SCCENGINE_CACHE_DIR, else the platform's cache folder."""
    if chosen := os.environ.get("SCCENGINE_CACHE_DIR"):
        return Path(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("sccengine", appauthor=False) / "kernels"


def writable(folder):
    """`folder`, made if need be; None where it cannot be written: kernels are then compiled anew in each process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return None
