"""Data sets by name, and where their files are looked for."""

import subprocess
import sys

import numpy as np
import pytest

from sccengine import data
from sccengine.data import catalog


@pytest.fixture(autouse=True)
def no_data_folder(monkeypatch):
    monkeypatch.delenv("SCCENGINE_DATA_DIR", raising=False)


def test_built_in_sets_need_no_files(tmp_path):
    train, test = data.load("digits", tmp_path / "absent")
    assert len(train) + len(test) == 1797
    train, test = data.load("synthetic")
    assert (len(train), len(test)) == (5000, 1000)


def test_precedence_argument_environment_default(tmp_path, monkeypatch):
    import platformdirs

    assert data.data_folder() == platformdirs.user_data_path("sccengine", appauthor=False)
    monkeypatch.setenv("SCCENGINE_DATA_DIR", str(tmp_path / "environment"))
    assert data.data_folder() == tmp_path / "environment"
    assert data.data_folder(str(tmp_path / "argument")) == tmp_path / "argument"
    monkeypatch.setenv("SCCENGINE_DATA_DIR", "")
    assert data.data_folder() == platformdirs.user_data_path("sccengine", appauthor=False)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_missing_sets_say_what_belongs_where(name, tmp_path, monkeypatch):
    monkeypatch.setenv("SCCENGINE_DATA_DIR", str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        data.load(name)
    message = str(caught.value)
    assert message.startswith(f"data set '{name}' is not installed") and f"into {tmp_path / name}" in message
    assert "SCCENGINE_DATA_DIR" in message and "http" not in message
    assert ("IDX files" if "mnist" in name else "binary.tar.gz") in message


def test_installed_sets_are_read_from_the_folder_of_their_name(tmp_path, monkeypatch):
    asked = []
    for name in catalog._INSTALLED:
        _, files = catalog._INSTALLED[name]
        monkeypatch.setitem(catalog._INSTALLED, name, (lambda folder: asked.append(folder) or "sets", files))
    assert data.load("mnist", tmp_path) == "sets"
    assert data.load("cifar10", tmp_path / "cifar10") == "sets"
    (tmp_path / "mnist" / "mnist").mkdir(parents=True)
    assert data.load("mnist", tmp_path / "mnist") == "sets"
    assert asked == [tmp_path / "mnist", tmp_path / "cifar10", tmp_path / "mnist" / "mnist"]


def test_fashion_mnist_is_read_with_its_own_names(tmp_path):
    import struct

    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    for part in ("train", "t10k"):
        images = struct.pack(">IIII", 0x803, 2, 3, 3) + bytes(18)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(images)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 2) + b"\0\1")
    train, _ = data.load("fashion-mnist", tmp_path)
    assert train.class_names[1] == "Trouser"


def test_own_files_by_path(tmp_path):
    np.savez(tmp_path / "a:b.npz", images=np.zeros((10, 4, 4), np.uint8), labels=np.arange(10) % 2)
    train, test = data.load(f"npz:{tmp_path / 'a:b.npz'}")
    assert (len(train), len(test)) == (8, 2)
    with pytest.raises(FileNotFoundError, match="nothing.npz"):
        data.load(f"npz:{tmp_path / 'nothing.npz'}")


def test_image_folder_by_path_with_a_size(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(2):
            image.new("RGB", (6, 6)).save(tmp_path / name / f"{i}.png")
    assert data.load(f"folder:{tmp_path}")[0].image_shape == (3, 32, 32)
    assert data.load(f"folder:{tmp_path}", image_size=12)[0].image_shape == (3, 12, 12)


@pytest.mark.parametrize("name", ["imagenet", "", "digits:x", "npz", "zip:a"])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(ValueError) as caught:
        data.load(name)
    assert repr(name) in str(caught.value)
    assert "digits, synthetic, mnist, fashion-mnist, cifar10, cifar100, npz:PATH, folder:PATH" in str(caught.value)


def test_bad_arguments():
    with pytest.raises(TypeError, match="name must be a text, got int"):
        data.load(3)
    with pytest.raises(ValueError, match="'npz:' needs a path"):
        data.load("npz:")
    with pytest.raises(ValueError, match='image_size is for "folder:PATH" only, got it with .digits'):
        data.load("digits", image_size=8)


def test_import_is_light():
    """Neither Numba nor an optional package is loaded before something needs it."""
    code = (
        "import sys; import sccengine.data; sccengine.data.load('digits'); "
        "print([m for m in ('numba', 'PIL', 'platformdirs', 'matplotlib', 'click') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
