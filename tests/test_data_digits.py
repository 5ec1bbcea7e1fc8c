"""The embedded digits."""

import csv
import gzip
import io
from pathlib import Path

import numpy as np
import pytest

import sccengine.data
from sccengine.data import DataError, digits, load_digits

FOLDER = Path(sccengine.data.__file__).parent / "embedded"


def test_shapes_and_a_stratified_fifth():
    train, test = load_digits()
    assert train.images.shape == (1438, 1, 8, 8) and test.images.shape == (359, 1, 8, 8)
    whole = np.bincount(train.labels) + np.bincount(test.labels)
    assert whole.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.abs(np.bincount(test.labels) - whole / 5).max() <= 0.5
    assert train.class_names == tuple("0123456789")


def test_both_parts_hold_every_row_of_the_file_once():
    def rows(images, labels):
        return sorted((*map(int, image.ravel()), int(label)) for image, label in zip(images, labels))

    train, test = load_digits()
    with gzip.open(FOLDER / "digits.csv.gz", "rt") as file:
        table = [[int(cell) for cell in row] for row in csv.reader(io.StringIO(file.read()))]
    want = sorted((*(round(ink * 255 / 16) for ink in row[:-1]), row[-1]) for row in table)
    assert sorted(rows(train.images, train.labels) + rows(test.images, test.labels)) == want


def test_the_split_is_pinned():
    _, test = load_digits()
    assert test.labels[:20].tolist() == [0, 9, 0, 9, 0, 1, 7, 8, 8, 7, 1, 7, 2, 6, 4, 4, 9, 1, 5, 0]
    assert int(test.images.astype(np.int64).sum()) == 1_796_424


def test_a_damaged_file_is_refused(tmp_path, monkeypatch):
    content = bytearray((FOLDER / "digits.csv.gz").read_bytes())
    content[1_000] ^= 1
    (tmp_path / "digits.csv.gz").write_bytes(content)
    monkeypatch.setattr(digits, "_FILE", tmp_path / "digits.csv.gz")
    with pytest.raises(DataError, match="digits.csv.gz: expected a file with SHA-256 09f66e6debdee2cd.*Reinstall"):
        load_digits()


def test_source_and_licence_travel_with_the_file():
    text = (FOLDER / "SOURCE.md").read_text()
    assert "CC BY 4.0" in text and "Alpaydin" in text and "10.24432/C50P49" in text
    assert "CC BY 4.0" in load_digits()[0].source
    assert (FOLDER / "digits.csv.gz").stat().st_size < 100_000
