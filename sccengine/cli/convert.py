"""``sccengine convert``: a trained dw+pw run, or a file of its weights, as a dw+scc run, not trained anew."""

from __future__ import annotations

from pathlib import Path

import click

from sccengine import backend, data
from sccengine.cli.interrupted import end_interrupted
from sccengine.cli.options import (
    Folder,
    Whole,
    data_dir_option,
    dataset_option,
    device_option,
    given_options,
    json_option,
    learning_options,
    model_option,
    print_json,
    seed_option,
    size_options,
    sliding_options,
    together,
    usage_errors,
)
from sccengine.cli.trained import load_trained, weights_option
from sccengine.training import TrainingInterrupted
from sccengine.training.job import build_model, build_trainer, choose_rates, describe_run
from sccengine.training.run_directory import RunDirectory
from sccengine.wording import counted

_SOURCE, _TARGET = "dw+pw", "dw+scc"
# For how many epochs the run is laid out where --finetune is not given.
_EPOCHS = 3
# What a run has of its own.
_OF_A_FILE = ("model", "width", "stem", "dataset")

_conversion_options = together(
    click.option("--out", type=Folder(), required=True, help="The new run's folder."),
    sliding_options,
    click.option(
        "--calibrate",
        type=Whole(min=0),
        metavar="IMAGES",
        default=256,
        show_default=True,
        help="Training images on which the layers' outputs are reproduced; 0: weights are only cut.",
    ),
    click.option("--finetune", type=Whole(min=0), metavar="EPOCHS", default=0, show_default=True, help="Train on."),
    click.option(
        "--restarts",
        type=Whole(min=0),
        metavar="N",
        default=8,
        show_default=True,
        help="Random starts of the search for the channels' order.",
    ),
)


@click.command()
@click.argument("source", metavar="RUN_OR_FILE")
@_conversion_options
@weights_option
@model_option
@size_options
@dataset_option
@data_dir_option
@click.option(
    "--augment/--no-augment", default=False, show_default=True, help="Vary the images of the fine-tuning at random."
)
@learning_options
@seed_option
@device_option
@json_option
@click.pass_context
def convert(
    ctx, source, out, groups, overlap, calibrate, finetune, restarts, weights, data_dir, device, as_json, **options
):
    """Make a dw+scc run of RUN_OR_FILE, a run directory of scheme dw+pw or a safetensors file of such a model.

    Every pointwise layer after a depthwise one becomes a sliding-channel one: first the channels between layers are
    put in the order that loses least, which costs nothing at run time, then the weights within the windows are those
    of least squares. The new folder is an ordinary run: evaluate, predict and export read it, and what --finetune
    leaves undone, train --resume does. conversion.json in it has the errors by layer and the accuracies.

    A run is fine-tuned by its own recipe, but on the images as they are, which a few epochs do better with; options
    that are given replace its own. Of a file, --model, --width, --stem and --dataset say what it holds.

    \b
    Examples:
      sccengine train --scheme dw+pw --out runs/pw
      sccengine convert runs/pw --out runs/scc --groups 2 --overlap 0.5 --finetune 3
      sccengine convert runs/pw --out runs/each --groups 2,4,8 --finetune 3 --lr 0.05
      sccengine convert vgg16.safetensors --model vgg16 --dataset cifar10 --out runs/vgg16-scc
    """
    if RunDirectory(out).holds_run():
        raise click.UsageError(
            f"{out} already holds a run: go on with it by sccengine train --out {out} --resume, or choose another --out"
        )
    given = given_options(ctx)
    if Path(source).is_dir():
        model, options, data_dir = _of_run(source, weights, device, data_dir, options, given)
    elif Path(source).is_file():
        if "weights" in given:
            raise click.UsageError("--weights is for a run; a file has one set of them")
        model, options = _of_file(source, device, data_dir, options)
    else:
        raise click.UsageError(f"{source!r} is neither a run directory nor a file")
    choose_rates(options)
    # However long the run was meant to be: it is a few epochs that come now.
    options |= {"scheme": _TARGET, "groups": groups, "overlap": overlap, "patience": None}
    from sccengine.interop.conversion import begin_converted, fine_tune

    with usage_errors():
        epochs = finetune or _EPOCHS
        trainer = build_trainer(options, epochs, data_dir, device, out=out, progress="quiet" if as_json else "auto")
    trainer.config["environment"]["converted_from"] = source
    with usage_errors():
        conversion = begin_converted(
            trainer,
            model,
            epochs,
            groups=groups,
            overlap=overlap,
            images=calibrate,
            restarts=restarts,
            about={"from": source, "run": str(out)},
        )
    if not as_json:
        click.echo(_table(conversion))
    if finetune:
        try:
            fine_tune(trainer, conversion, finetune)
        except TrainingInterrupted as stop:
            end_interrupted(ctx, stop, stop, f"sccengine train --out {out} --resume")
    if as_json:
        print_json(conversion.record)
    else:
        click.echo(_outcome(conversion.record, finetune, out))


def _of_run(source, weights, device, data_dir, options, given):
    """(model, options, data folder) of a run directory; options given on the command line replace the run's."""
    if foreign := sorted(given & set(_OF_A_FILE)):
        raise click.UsageError(f"--{foreign[0]} is for a file of weights; a run has its own")
    model, config = load_trained(source, weights, device)
    _check_scheme(source, config["model"].get("scheme"))
    own = {**options, **config["options"], "augment": options["augment"]}
    options = {**own, **{name: options[name] for name in given & set(options)}}
    if "optimizer" in given:
        options |= {name: None for name in ("lr", "weight_decay") if name not in given}
    return model, options, data_dir or config["environment"].get("data_dir")


def _of_file(source, device, data_dir, options):
    """(model, options) of a safetensors file."""
    from sccengine.interop import safetensors

    options |= {"scheme": _SOURCE, "groups": 1, "overlap": 0.0}
    with usage_errors():
        device = backend.resolve_device(device)
        train_set, _ = data.load(options["dataset"], data_dir)
        model = build_model(describe_run(options, train_set))
    safetensors.load(source, model)
    return model.to(device), options


def _check_scheme(source, scheme):
    if scheme != _SOURCE:
        raise click.UsageError(
            f"{source} is a run of scheme {scheme}; only {_SOURCE} has pointwise layers to convert: "
            f"sccengine train --scheme {_SOURCE} makes one"
        )


def _table(conversion):
    """What every layer lost, what the network costs, and its accuracy without further training."""
    width = max(len("layer"), *(len(layer.name) for layer in conversion.layers))
    lines = [f"{'layer':<{width}}  {'outside windows':>15}  {'in the old order':>16}  {'output error':>12}"]
    for layer in conversion.layers:
        error = "-" if layer.error is None else f"{100 * layer.error:.1f} %"
        lines.append(
            f"{layer.name:<{width}}  {_percent(layer.energy):>15}  {_percent(layer.unsorted):>16}  {error:>12}"
        )
    costs = (f"{name} {before:,} -> {after:,}" for name, (before, after) in conversion.costs.items())
    lines += [
        "outside windows: share of the weights' energy that is dropped; output error: rms, of the output's deviation",
        f"{', '.join(costs).replace('macs', 'MACs')}",
        f"held-out accuracy: {conversion.original.accuracy:.2%} before, {conversion.converted.accuracy:.2%} converted",
    ]
    return "\n".join(lines)


def _percent(share):
    return f"{100 * share:.1f} %"


def _outcome(record, epochs, out):
    if not epochs:
        command = f"sccengine train --out {out} --resume"
        return f"{out}: converted; next: {command} fine-tunes it for {counted(_EPOCHS, 'epoch')}"
    return (
        f"held-out accuracy after {counted(epochs, 'epoch')} of fine-tuning: {record['accuracy']['fine_tuned']:.2%}\n"
        f"{out}: next: sccengine evaluate {out}"
    )
