"""``sccengine predict``: what a trained run makes of images."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from sccengine import DataError, data
from sccengine.cli.options import Whole, device_option, json_option, print_json, run_argument
from sccengine.cli.trained import load_trained, weights_option
from sccengine.training import predict as predict_images
from sccengine.training.job import normalisation


@click.command()
@run_argument
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--top", type=Whole(min=1), default=3, show_default=True, help="How many classes to print.")
@click.option(
    "--invert",
    is_flag=True,
    help="Swap black and white first: digits are learnt as white ink on black, filling the picture.",
)
@weights_option
@device_option
@json_option
def predict(run, files, top, invert, weights, device, as_json):
    """The most probable classes of images, by the weights of the run directory RUN.

    FILES are images (PNG, JPEG ...; cut to the proportions and brought to the size of the training images) or .npy
    files of uint8 pixels, shaped (H, W), (C, H, W) or (N, C, H, W) with exactly that size.

    \b
    Examples:
      sccengine predict runs/digits seven.png
      sccengine predict runs/digits scan.jpg --invert --top 1
      sccengine predict runs/digits batch.npy --json
    """
    model, config = load_trained(run, weights, device)
    shape, names = tuple(config["data"]["image_shape"]), config["data"]["class_names"]
    pictures = [(label, image) for file in files for label, image in _read(file, shape)]
    images = np.stack([image for _, image in pictures])
    if invert:
        images = 255 - images
    probabilities = predict_images(model, normalisation(config)(images))
    rows = []
    for (label, _), row in zip(pictures, probabilities):
        order = np.argsort(-row, kind="stable")[:top]
        rows.append((label, [(names[i], float(row[i])) for i in order]))
    if as_json:
        print_json(
            [
                {"image": label, "classes": [{"class": name, "probability": p} for name, p in found]}
                for label, found in rows
            ]
        )
        return
    for label, found in rows:
        click.echo(f"{label}: " + ", ".join(f"{name} ({p:.2%})" for name, p in found))


def _read(file, shape):
    """[(what to call it, uint8 image of `shape`), ...] of an image or .npy file."""
    if file.suffix.lower() != ".npy":
        return [(str(file), data.read_image(file, shape[1], shape[2], shape[0]))]
    try:
        array = np.load(file, allow_pickle=False)
    except Exception as error:  # NumPy parses the header as Python, which fails in many ways
        raise DataError(f"{file}: not a .npy file of numbers ({error})") from error
    wanted = " x ".join(map(str, shape))
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
        found = getattr(array, "dtype", "an archive of several arrays")
        raise DataError(f"{file}: expected uint8 pixels, 0 ... 255, found {found}")
    stack = array.reshape(1, *array.shape) if array.ndim == 3 else array
    if array.ndim == 2:
        stack = array.reshape(1, 1, *array.shape)
    if stack.ndim != 4 or stack.shape[1:] != shape or not len(stack):
        raise DataError(f"{file}: expected one or more images of {wanted} pixels, found shape {array.shape}")
    many = len(stack) > 1
    return [(f"{file}[{i}]" if many else str(file), image) for i, image in enumerate(stack)]
