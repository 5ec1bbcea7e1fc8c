"""Folders of images."""

import builtins

import numpy as np
import pytest

from sccengine.data import DataError, load_image_folder, read_image

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def picture(colour, width=20, height=10):
    return Image.new("RGB", (width, height), colour)


def fill(folder, count=5, suffix=".png"):
    """`count` red images in class b, blue ones in class a."""
    for name, colour in (("b", (255, 0, 0)), ("a", (0, 0, 255))):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            picture(colour).save(folder / name / f"{i}{suffix}")
    return folder


def test_one_folder_is_split_in_a_fixed_way(tmp_path):
    train, test = load_image_folder(fill(tmp_path), image_size=8)
    assert train.images.shape == (8, 3, 8, 8) and test.images.shape == (2, 3, 8, 8)
    assert train.class_names == ("a", "b")
    for part in (train, test):
        for image, label in zip(part.images, part.labels):
            want = [0, 0, 255] if label == 0 else [255, 0, 0]
            assert np.array_equal(image, np.broadcast_to(np.array(want)[:, None, None], (3, 8, 8)))


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_given_parts(tmp_path, held_out):
    fill(tmp_path / "train", 3)
    fill(tmp_path / held_out, 2)
    train, test = load_image_folder(tmp_path)
    assert len(train) == 6 and len(test) == 4 and train.image_shape == (3, 32, 32)
    (tmp_path / held_out / "c").mkdir()
    with pytest.raises(DataError, match=r"expected the classes of .*train \(a, b\), found c"):
        load_image_folder(tmp_path)


def test_images_are_cut_to_the_middle_and_resized(tmp_path):
    wide = picture((0, 0, 0), 30, 10)
    wide.paste((255, 255, 255), (10, 0, 20, 10))
    wide.save(tmp_path / "wide.png")
    assert (read_image(tmp_path / "wide.png", 10, 10) == 255).all()
    assert (read_image(tmp_path / "wide.png", 10, 30)[:, :, :10] == 0).all()
    assert read_image(tmp_path / "wide.png", 4, 6, channels=1).shape == (1, 4, 6)
    with pytest.raises(ValueError, match="channels must be 1 or 3, got 2"):
        read_image(tmp_path / "wide.png", 4, 4, channels=2)


def test_exif_orientation_is_applied(tmp_path):
    image = picture((0, 0, 0), 10, 10)
    image.paste((255, 255, 255), (0, 0, 10, 5))  # white upper half
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise: white on the right
    image.save(tmp_path / "turned.png", exif=exif)
    pixels = read_image(tmp_path / "turned.png", 10, 10)
    assert (pixels[:, :, 6:] == 255).all() and (pixels[:, :, :4] == 0).all()


def test_palette_grey_and_transparent_images_are_read(tmp_path):
    fill(tmp_path)
    for mode in ("L", "P", "RGBA", "1"):
        picture((255, 255, 255)).convert(mode).save(tmp_path / "a" / f"{mode}.png")
        assert (read_image(tmp_path / "a" / f"{mode}.png", 4, 4) == 255).all()


def test_hidden_and_other_files_are_passed_over(tmp_path):
    fill(tmp_path)
    (tmp_path / "a" / ".hidden.png").write_text("x")
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / ".git").mkdir()
    train, test = load_image_folder(tmp_path)
    assert len(train) + len(test) == 10


def test_bad_images_are_all_named(tmp_path):
    fill(tmp_path)
    (tmp_path / "a" / "text.png").write_text("I am not an image")
    (tmp_path / "b" / "empty.jpg").write_bytes(b"")
    whole = (tmp_path / "b" / "0.png").read_bytes()
    (tmp_path / "b" / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError) as caught:
        load_image_folder(tmp_path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    for line, name in zip(lines, ("text.png", "cut.png", "empty.jpg")):
        assert f"{name}: expected an image, found a file that Pillow cannot read" in line
    for i in range(6):
        (tmp_path / "a" / f"more{i}.png").write_text("x")
    with pytest.raises(DataError, match=r"(?s)and 4 more$"):
        load_image_folder(tmp_path)


def test_sixteen_bit_images_are_not_silently_clipped(tmp_path):
    fill(tmp_path)
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "a" / "deep.png")
    with pytest.raises(DataError, match=r"deep.png: expected 8 bits a channel, found pixels of mode I;16"):
        load_image_folder(tmp_path)


def test_folders_without_images_or_classes(tmp_path):
    with pytest.raises(DataError, match="expected at least two sub-folders.*found none"):
        load_image_folder(tmp_path)
    fill(tmp_path / "only" / "deeper")
    with pytest.raises(DataError, match="found only only"):
        load_image_folder(tmp_path)
    fill(tmp_path / "set")
    (tmp_path / "set" / "c").mkdir()
    with pytest.raises(DataError, match=r"c: expected images \(.png .*found an empty folder"):
        load_image_folder(tmp_path / "set")
    (tmp_path / "set" / "c" / "x.txt").write_text("x")
    with pytest.raises(DataError, match=r"found x.txt"):
        load_image_folder(tmp_path / "set")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        load_image_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="found a file"):
        load_image_folder(tmp_path / "set" / "a" / "0.png")


@pytest.mark.parametrize("size, error", [(0, ValueError), (-1, ValueError), (2.5, TypeError), ("32", TypeError)])
def test_bad_sizes(tmp_path, size, error):
    with pytest.raises(error, match="image_size must be"):
        load_image_folder(tmp_path, size)


def test_without_pillow(tmp_path, monkeypatch):
    fill(tmp_path)
    real = builtins.__import__

    def no_pillow(name, *rest):
        if name.partition(".")[0] == "PIL":
            raise ImportError("No module named 'PIL'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", no_pillow)
    with pytest.raises(ImportError, match=r'pip install "sccengine\[images\]"'):
        load_image_folder(tmp_path)
