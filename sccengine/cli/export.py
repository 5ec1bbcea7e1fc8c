"""``sccengine export``: a trained run, or a model by name, as an ONNX file."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sccengine import models
from sccengine.cli.options import (
    OutputFile,
    flag,
    given_options,
    image_options,
    json_option,
    model_of,
    model_settings,
    print_json,
)
from sccengine.cli.trained import load_trained, weights_option


@click.command()
@click.argument("source", metavar="RUN_OR_MODEL")
@click.option("--out", type=OutputFile(), required=True, help="The file to write.")
@weights_option
@click.option(
    "--load",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Weights (safetensors) of a model given by name; without it they are freshly initialised.",
)
@model_settings
@image_options
@json_option
@click.pass_context
def export(ctx, source, out, weights, load, input_shape, classes, as_json, **settings):
    """Write RUN_OR_MODEL, a run directory or the name of a model, to an ONNX file of standard operators.

    Size, classes and settings of a run are its own; the options of this verb are for a model by name. The file's
    batch axis is free; it takes normalised images (a run's mean and std are in its metadata) and gives logits.
    With onnxruntime installed the result is compared with the engine's before the file is written.

    \b
    Examples:
      sccengine export runs/digits --out digits.onnx
      sccengine export resnet18 --scheme dw+scc --groups 4 --input 3x32x32 --out resnet18.onnx
    """
    from sccengine.interop import onnx

    if Path(source).is_dir():
        if load is not None:
            raise click.UsageError("--load is for a model by name; a run has its own weights (--weights)")
        if unwanted := sorted(given_options(ctx) & {"input_shape", "classes", *settings}):
            raise click.UsageError(f"{flag(unwanted[0])} is for a model by name; a run has its own")
        model, config = load_trained(source, weights, "cpu")
        data = config["data"]
        input_shape, settings = data["image_shape"], config["model"]
        extra = {"mean": data["mean"], "std": data["std"], "classes": data["class_names"], "dataset": data["dataset"]}
    elif source in models.MODELS:
        model, settings = model_of(source, input_shape, classes, **settings)
        if load is not None:
            from sccengine.interop import safetensors

            safetensors.load(load, model)
        extra = {}
    else:
        raise click.UsageError(f"{source!r} is neither a run directory nor one of {', '.join(models.MODELS)}")
    settings |= {name: models.setting_text(settings[name]) for name in ("groups", "overlap")}
    metadata = {f"sccengine.{name}": value for name, value in settings.items()}
    metadata |= {f"sccengine.{name}": json.dumps(value) for name, value in extra.items()}
    error = onnx.export(model, out, tuple(input_shape), metadata)
    if as_json:
        print_json({"file": str(out), "verified": error is not None, "error": error})
    elif error is None:
        click.echo(f"{out}: NOT verified, as onnxruntime is not installed (pip install onnxruntime)")
    else:
        click.echo(f"{out}: verified in onnxruntime, outputs agree to {error:.1e} of the largest logit")
