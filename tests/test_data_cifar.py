"""CIFAR's binary version, with files of a few records."""

import dataclasses
import io
import tarfile

import numpy as np
import pytest

from sccengine.data import DataError, cifar, load_cifar10, load_cifar100

RECORDS = 4
OFFICIAL = cifar.CIFAR10, cifar.CIFAR100


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    """The official layouts with four records a file."""
    for name in ("CIFAR10", "CIFAR100"):
        layout = getattr(cifar, name)
        small = dataclasses.replace(
            layout, train=dict.fromkeys(layout.train, RECORDS), test=dict.fromkeys(layout.test, RECORDS)
        )
        monkeypatch.setattr(cifar, name, small)


def record_bytes(seed, label_columns):
    """RECORDS records: the given label bytes, then random pixels; (content, pixels)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (RECORDS, 3, 32, 32)).astype(np.uint8)
    content = b"".join(bytes(labels) + image.tobytes() for labels, image in zip(zip(*label_columns), pixels))
    return content, pixels


def cifar10_files():
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    return {name: record_bytes(seed, [[seed, 9, 0, 3]])[0] for seed, name in enumerate(names)}


def write_folder(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_archive(path, files, prefix="cifar-10-batches-bin/", mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_layout_constants_are_the_official_sizes():
    ten, hundred = OFFICIAL
    assert set(cifar._files(ten).values()) == {30_730_000} and len(cifar._files(ten)) == 6
    assert cifar._files(hundred) == {"train.bin": 153_700_000, "test.bin": 30_740_000}
    assert len(ten.class_names) == 10
    names = hundred.class_names
    assert len(names) == 100 and list(names) == sorted(names) and names[52] == "oak_tree"


def check_cifar10(train, test):
    assert train.images.shape == (20, 3, 32, 32) and test.images.shape == (4, 3, 32, 32)
    for batch in range(5):
        part = slice(4 * batch, 4 * batch + 4)
        assert np.array_equal(train.images[part], record_bytes(batch, [[0] * 4])[1])
        assert train.labels[part].tolist() == [batch, 9, 0, 3]
    assert np.array_equal(test.images, record_bytes(5, [[0] * 4])[1]) and test.labels.tolist() == [5, 9, 0, 3]
    assert train.class_names[3] == "cat"


def test_folder_subfolder_archive_and_folder_with_archive(tmp_path):
    files = cifar10_files()
    check_cifar10(*load_cifar10(write_folder(tmp_path / "a", files)))
    write_folder(tmp_path / "b" / "cifar-10-batches-bin", files)
    check_cifar10(*load_cifar10(tmp_path / "b"))
    (tmp_path / "c").mkdir()
    archive = write_archive(tmp_path / "c" / "cifar-10-binary.tar.gz", files)
    check_cifar10(*load_cifar10(archive))
    check_cifar10(*load_cifar10(tmp_path / "c"))


def test_cifar100_uses_the_fine_label(tmp_path):
    folder = write_folder(
        tmp_path,
        {
            "train.bin": record_bytes(0, [[1, 2, 3, 4], [99, 0, 50, 7]])[0],
            "test.bin": record_bytes(1, [[0] * 4] * 2)[0],
        },
    )
    train, _ = load_cifar100(folder)
    assert train.labels.tolist() == [99, 0, 50, 7]
    assert np.array_equal(train.images, record_bytes(0, [[0] * 4])[1])


def test_an_archive_writes_nothing_wherever_its_members_point(tmp_path, monkeypatch):
    files = cifar10_files()
    hostile = {"../../evil.bin": b"x", "/tmp/evil.bin": b"x", **{f"../{name}": files[name] for name in files}}
    archive = write_archive(tmp_path / "cifar.tar.gz", hostile, prefix="")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    check_cifar10(*load_cifar10(archive))
    assert sorted(tmp_path.rglob("*")) == before


def test_links_and_folders_in_an_archive_are_passed_over(tmp_path):
    path = tmp_path / "links.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("test_batch.bin")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(DataError, match="no data_batch_1.bin, .*no test_batch.bin.*binary version"):
        load_cifar10(path)


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no cifar-10-binary.tar.gz and no data_batch_1.bin"):
        load_cifar10(tmp_path)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="cifar-10-python.tar.gz is the pickled Python version"):
        load_cifar10(tmp_path)
    files = cifar10_files()
    del files["data_batch_4.bin"], files["test_batch.bin"]
    with pytest.raises(FileNotFoundError, match="no data_batch_4.bin, no test_batch.bin"):
        load_cifar10(write_folder(tmp_path, files))
    with pytest.raises(DataError, match=r"found no data_batch_4.bin, no test_batch.bin"):
        load_cifar10(write_archive(tmp_path / "x.tar.gz", files))


@pytest.mark.parametrize("change, found", [(lambda c: c[:-1], "12,291"), (lambda c: c + c[:3073], "15,365")])
def test_wrong_sizes(tmp_path, change, found):
    files = cifar10_files()
    files["data_batch_2.bin"] = change(files["data_batch_2.bin"])
    with pytest.raises(DataError, match=rf"data_batch_2.bin: expected 12,292 bytes, found {found} bytes"):
        load_cifar10(write_folder(tmp_path / "a", files))
    with pytest.raises(DataError, match=rf"x.tar.gz:.*data_batch_2.bin: expected 12,292 bytes, found {found} bytes"):
        load_cifar10(write_archive(tmp_path / "x.tar.gz", files))


def test_foreign_labels(tmp_path):
    files = cifar10_files()
    files["test_batch.bin"] = record_bytes(0, [[0, 1, 10, 2]])[0]
    with pytest.raises(DataError, match=r"test_batch.bin: expected labels in 0 ... 9, found label 10 .*position 2"):
        load_cifar10(write_folder(tmp_path, files))


@pytest.mark.parametrize("keep", [0, 1, 20, 5_000, -20])
def test_archive_cut_short(tmp_path, keep):
    path = write_archive(tmp_path / "cut.tar.gz", cifar10_files())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"cut.tar.gz: expected "):
        load_cifar10(path)


def test_archive_that_is_none(tmp_path):
    (tmp_path / "page.tar.gz").write_text("<html>not found</html>")
    with pytest.raises(DataError, match="page.tar.gz: expected a complete archive such as cifar-10-binary.tar.gz"):
        load_cifar10(tmp_path / "page.tar.gz")
