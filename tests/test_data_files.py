"""Reading whole files, plain and gzip."""

import gzip

import pytest

from sccengine.data import files
from sccengine.data.errors import DataError


def test_plain_and_gzip_are_told_apart_by_content(tmp_path):
    content = bytes(range(256)) * 10
    (tmp_path / "plain.gz").write_bytes(content)
    (tmp_path / "packed.bin").write_bytes(gzip.compress(content))
    assert files.read_bytes(tmp_path / "plain.gz") == content
    assert files.read_bytes(tmp_path / "packed.bin") == content


def test_empty_and_one_byte_files_are_read(tmp_path):
    for content in (b"", b"\x1f"):
        (tmp_path / "f").write_bytes(content)
        assert files.read_bytes(tmp_path / "f") == content


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.bin: no such file"):
        files.read_bytes(tmp_path / "nothing.bin")
    with pytest.raises(DataError, match="expected a file, found a folder"):
        files.read_bytes(tmp_path)


@pytest.mark.parametrize("keep", [2, 11, 100, 200, -1])
def test_gzip_cut_anywhere(tmp_path, keep):
    packed = gzip.compress(bytes(i * i % 251 for i in range(5_000)))
    (tmp_path / "cut.gz").write_bytes(packed[:keep])
    with pytest.raises(DataError, match=r"cut.gz: expected a complete gzip file, found .*download"):
        files.read_bytes(tmp_path / "cut.gz")


def test_gzip_with_a_flipped_bit(tmp_path):
    packed = bytearray(gzip.compress(bytes(i * i % 251 for i in range(5_000))))
    for position in (40, len(packed) - 6):
        damaged = packed.copy()
        damaged[position] ^= 0x10
        (tmp_path / "bad.gz").write_bytes(damaged)
        with pytest.raises(DataError, match="bad.gz: expected a complete gzip file"):
            files.read_bytes(tmp_path / "bad.gz")


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_MOST_BYTES", 1_000)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(100_000)))
    with pytest.raises(DataError, match="at most 1,000 bytes"):
        files.read_bytes(tmp_path / "bomb.gz")
