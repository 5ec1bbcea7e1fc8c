"""The embedded default: 1,797 real handwritten digits of 8x8 pixels; embedded/SOURCE.md says whose."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from sccengine.data.dataset import ImageDataset
from sccengine.data.errors import mismatch
from sccengine.data.files import read_bytes, require_file

CITATION = (
    "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak (1998), "
    "UCI Machine Learning Repository, doi:10.24432/C50P49, CC BY 4.0"
)
_FILE = Path(__file__).with_name("embedded") / "digits.csv.gz"
_SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
_INK = 16  # the file's darkest pixel
_SPLIT_SEED = 0


def load_digits():
    """(train, test): 1,438 and 359 images, uint8 (N, 1, 8, 8), ink 255 on paper 0; ten classes.

    Every class gives a fifth of its images, drawn with a fixed seed, to the test part: the split is part of
    the data set and never depends on a run's seed. A damaged file is a DataError.
    """
    digest = hashlib.sha256(require_file(_FILE).read_bytes()).hexdigest()
    if digest != _SHA256:
        raise mismatch(
            _FILE,
            f"a file with SHA-256 {_SHA256[:16]}...",
            f"{digest[:16]}...",
            "Reinstall sccengine to mend it",
        )
    table = np.loadtxt(read_bytes(_FILE).decode("ascii").splitlines(), dtype=np.uint8, delimiter=",")
    images = (table[:, :-1].astype(np.int64) * 255 + _INK // 2) // _INK
    dataset = ImageDataset(
        images.astype(np.uint8).reshape(-1, 1, 8, 8),
        table[:, -1].astype(np.int64),
        tuple("0123456789"),
        "digits",
        CITATION,
    )
    return dataset.split(seed=_SPLIT_SEED)
