"""The files of compiled CUDA kernels: whole or absent, few, and never in the way."""

import os

import pytest

from sccengine.kernels.cuda import cubin_cache


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setattr(cubin_cache, "folder", lambda: tmp_path)
    return tmp_path


def test_what_is_stored_is_loaded(folder):
    assert cubin_cache.load("a") is None
    cubin_cache.store("a", b"")
    cubin_cache.store("b", b"code")
    assert cubin_cache.load("a") == b""
    assert cubin_cache.load("b") == b"code"
    assert cubin_cache.size() == (2, 2 * 32 + 4)


@pytest.mark.parametrize("damage", [lambda c: b"", lambda c: c[:20], lambda c: c[:-1], lambda c: c[:-1] + b"x"])
def test_a_damaged_file_is_absent_and_written_again(folder, damage):
    cubin_cache.store("a", b"code")
    (path,) = folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert cubin_cache.load("a") is None
    cubin_cache.store("a", b"code")
    assert cubin_cache.load("a") == b"code"


def test_the_files_used_last_are_kept(folder, monkeypatch):
    monkeypatch.setattr(cubin_cache, "LIMIT", 3)
    for age, key in enumerate("abc"):
        cubin_cache.store(key, key.encode())
        os.utime(folder / f"{key}.cubin", (1000 + age, 1000 + age))
    (folder / "killed.new").write_bytes(b"half")
    os.utime(folder / "killed.new", (1, 1))
    assert cubin_cache.load("a") == b"a"
    cubin_cache.store("d", b"d")
    assert {path.name for path in folder.iterdir()} == {"a.cubin", "c.cubin", "d.cubin"}


def test_a_failed_write_leaves_nothing(folder, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    cubin_cache.store("a", b"code")
    assert not list(folder.iterdir())


def test_without_a_writable_folder_nothing_is_kept(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("a file is no folder")
    monkeypatch.setenv("SCCENGINE_CACHE_DIR", str(tmp_path / "file"))
    cubin_cache.folder.cache_clear()
    try:
        assert cubin_cache.folder() is None
        cubin_cache.store("a", b"code")
        assert cubin_cache.load("a") is None
        assert cubin_cache.size() == (0, 0)
    finally:
        cubin_cache.folder.cache_clear()
