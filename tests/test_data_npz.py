"""User .npz archives: both key sets, both layouts, and everything that can be wrong."""

import zipfile

import numpy as np
import pytest

from sccengine.data import DataError, load_npz


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def keras(**changes):
    """The four arrays that Keras' files have, with `changes`."""
    arrays = {
        "x_train": pixels(10, 6, 5),
        "y_train": np.arange(10, dtype=np.uint8) % 4,
        "x_test": pixels(4, 6, 5),
        "y_test": np.arange(4, dtype=np.uint8),
    }
    return arrays | changes


def save(tmp_path, arrays):
    np.savez_compressed(tmp_path / "set.npz", **arrays)
    return tmp_path / "set.npz"


def test_four_keys(tmp_path):
    arrays = keras()
    train, test = load_npz(save(tmp_path, arrays))
    assert np.array_equal(train.images[:, 0], arrays["x_train"]) and train.images.shape == (10, 1, 6, 5)
    assert np.array_equal(test.images[:, 0], arrays["x_test"])
    assert train.labels.tolist() == arrays["y_train"].tolist() and train.labels.dtype == np.int64
    assert train.class_names == test.class_names == ("0", "1", "2", "3")


def test_two_keys_are_split_in_a_fixed_way(tmp_path):
    path = save(tmp_path, {"images": pixels(50, 8, 8, 3), "labels": np.arange(50) % 5})
    train, test = load_npz(path)
    assert len(train) == 40 and np.bincount(test.labels).tolist() == [2] * 5
    assert np.array_equal(test.images, load_npz(path)[1].images)


def test_layouts(tmp_path):
    nchw = pixels(10, 3, 6, 5)
    for images, extra in (
        (nchw, {}),
        (nchw.transpose(0, 2, 3, 1), {}),
        (nchw, {"layout": "NCHW"}),
        (nchw.transpose(0, 2, 3, 1), {"layout": "NHWC"}),
    ):
        train, _ = load_npz(save(tmp_path, keras(x_train=images, x_test=images[:4], **extra)))
        assert np.array_equal(train.images, nchw)


def test_ambiguous_images_need_the_layout_key(tmp_path):
    small = pixels(10, 3, 6, 4)
    with pytest.raises(DataError, match=r'x_train\].*both the second and the last axis.*layout = "NCHW"'):
        load_npz(save(tmp_path, keras(x_train=small, x_test=small[:4])))
    train, _ = load_npz(save(tmp_path, keras(x_train=small, x_test=small[:4], layout="NHWC")))
    assert np.array_equal(train.images, small.transpose(0, 3, 1, 2))
    many = pixels(10, 7, 6, 5)
    with pytest.raises(DataError, match="neither the second nor the last axis"):
        load_npz(save(tmp_path, keras(x_train=many, x_test=many[:4])))
    train, _ = load_npz(save(tmp_path, keras(x_train=many, x_test=many[:4], layout="NCHW")))
    assert train.image_shape == (7, 6, 5)


def test_column_labels_and_class_names(tmp_path):
    names = np.array(["ant", "bee", "cat", "dog", "eel"])
    arrays = keras(y_train=(np.arange(10) % 5)[:, None], class_names=names)
    train, _ = load_npz(save(tmp_path, arrays))
    assert train.labels.tolist() == [0, 1, 2, 3, 4] * 2 and train.class_names == tuple(names.tolist())


OBJECTS = np.array([{"a": 1}] * 10, dtype=object)


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"x": pixels(3)}, "expected keys x_train, y_train, x_test, y_test or images, labels, found keys x$"),
        ({}, "found an archive without arrays"),
        (keras(x_train=OBJECTS), r"\[x_train\]: expected an array of plain numbers.*Python objects are never loaded"),
        (keras(y_train=OBJECTS), r"\[y_train\]: expected an array of plain"),
        (keras(x_train=pixels(10, 6, 5) / 255), r"\[x_train\]: expected uint8 images.*float64 .*\* 255"),
        (keras(x_train=pixels(10, 30)), r"\[x_train\]: expected images of shape .*uint8 of shape \(10, 30\)"),
        (keras(x_train=pixels(10, 0, 5)), r"\[x_train\]: expected images of shape"),
        (keras(x_train=pixels(9, 6, 5)), r"\[x_train\]: expected as many images as .*\[y_train\] has labels \(10\)"),
        (keras(x_test=pixels(4, 6, 6)), r"\[x_test\]: expected images of .*= \(1, 6, 5\).*found \(1, 6, 6\)"),
        (keras(y_test=np.arange(4.0)), r"\[y_test\]: expected integer labels, found float64"),
        (keras(y_test=np.zeros((4, 10), int)), r"\[y_test\]: expected labels of shape"),
        (keras(y_test=np.array([0, -1, 2, 3])), r"\[y_test\]: .*found label -1 \(first at position 1\)"),
        (
            keras(y_test=np.array([0, 10**12, 2, 3])),
            r"\[y_test\]: expected labels in 0 ... 13, found label 1000000000000",
        ),
        (keras(class_names=np.array(["a", "b"])), r"\[y_train\]: expected labels in 0 ... 1, found label 3"),
        (keras(class_names=np.array(["a", "b", "a", "c"])), r"\[class_names\]: expected different names"),
        (keras(class_names=np.arange(4)), r"\[class_names\]: expected a row of texts, found int64"),
        (keras(layout="HWNC"), None),
        (keras(layout=np.array(["NCHW"])), r"\[layout\]: expected one text"),
    ],
)
def test_bad_contents(tmp_path, arrays, message):
    if message is None:  # an unknown layout matters for images of four axes
        arrays = arrays | {"x_train": pixels(10, 3, 6, 5), "x_test": pixels(4, 3, 6, 5)}
        message = r"\[layout\]: expected the text .NCHW. or .NHWC., found 'HWNC'"
    path = save(tmp_path, arrays)
    with pytest.raises(DataError, match=message) as caught:
        load_npz(path)
    assert str(path) in str(caught.value)


def test_files_that_are_no_archives(tmp_path):
    np.save(tmp_path / "a.npy", pixels(3, 3))
    (tmp_path / "b.npz").write_text("not numbers")
    (tmp_path / "c.npz").write_bytes(b"")
    for name in ("a.npy", "b.npz", "c.npz"):
        with pytest.raises(DataError, match=f"{name}: expected a complete .npz archive, found a file that starts"):
            load_npz(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="d.npz: no such file"):
        load_npz(tmp_path / "d.npz")


def test_a_zip_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "z.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DataError, match="expected keys"):
        load_npz(tmp_path / "z.npz")
    with zipfile.ZipFile(tmp_path / "z.npz", "w") as archive:
        for key in keras():
            archive.writestr(f"{key}.npy", b"hello")
    with pytest.raises(DataError, match=r"z.npz"):
        load_npz(tmp_path / "z.npz")


def test_an_array_whose_header_claims_too_much(tmp_path):
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (4611686018427387904, 9), }\n"
    with zipfile.ZipFile(tmp_path / "big.npz", "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(DataError, match=r"big.npz\[images\]"):
        load_npz(tmp_path / "big.npz")


def test_cut_and_flipped_archives_never_escape_as_another_error(tmp_path):
    whole = save(tmp_path, keras()).read_bytes()
    train, _ = load_npz(tmp_path / "set.npz")
    random = np.random.default_rng(1)
    for trial in range(200):
        damaged = bytearray(whole)
        if trial % 4 == 0:
            del damaged[random.integers(len(whole)) :]
        else:
            damaged[random.integers(len(whole))] ^= 1 << random.integers(8)
        (tmp_path / "damaged.npz").write_bytes(damaged)
        try:
            got, _ = load_npz(tmp_path / "damaged.npz")
        except DataError as error:
            assert "damaged.npz" in str(error)
        else:  # the damage hit a part that carries nothing, such as a time stamp
            assert np.array_equal(got.images, train.images) and np.array_equal(got.labels, train.labels)
