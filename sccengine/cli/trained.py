"""A finished (or unfinished) run, read back for evaluation and prediction."""

from __future__ import annotations

import click

from sccengine import backend
from sccengine.cli.options import usage_errors
from sccengine.training import RunDirectoryError, load_weights
from sccengine.training.job import build_model
from sccengine.training.run_directory import RunDirectory

weights_option = click.option(
    "--weights", type=click.Choice(("best", "last")), default="best", show_default=True, help="Of which epoch of a run."
)
_OF_THE_DATA = ("dataset", "image_shape", "class_names", "mean", "std")


def load_trained(path, weights, device):
    """(model with the "best" or "last" weights on `device`, config) of the run directory at `path`.

    Raises RunDirectoryError or CheckpointError that names the file and what is wrong with it.
    """
    directory = RunDirectory(path)
    config = directory.read_config("model", "options", "environment", *(f"data.{key}" for key in _OF_THE_DATA))
    with usage_errors():
        device = backend.resolve_device(device)
    file = directory.best if weights == "best" else directory.last
    if not file.exists():
        raise RunDirectoryError(f"{path} has no {file.name} yet: no epoch of this run is finished")
    try:
        model = build_model(config)
        model.load_state_dict(load_weights(file)[0])
    except (KeyError, TypeError, ValueError) as error:
        raise RunDirectoryError(f"{directory.config}: does not describe a model ({error})") from error
    return model.to(device), config
