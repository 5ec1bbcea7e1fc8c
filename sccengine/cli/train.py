"""``sccengine train``: a run from nothing, or from where it was left."""

from __future__ import annotations

import time
from pathlib import Path

import click
from click.core import ParameterSource

from sccengine import backend, data
from sccengine.training import RunDirectoryError, Trainer, TrainingInterrupted
from sccengine.training.run_directory import RunDirectory

from .dry_run import check_run
from .job import (
    DECAYS,
    OPTIMIZERS,
    SCHEDULES,
    STEP_EPOCHS,
    STEP_FACTOR,
    build_model,
    build_optimizer,
    build_schedule,
    build_test_loader,
    build_train_loader,
    describe_data,
)
from .options import Folder, Number, data_dir_option, device_option, model_options, together, usage_errors
from .presets import preset_option

# What each optimizer is given where --lr and --weight-decay are not; the few digits want more decay than large sets.
_RATES = {"sgd": 0.1, "adamw": 0.002}
_DECAYS = {"sgd": 5e-4, "adamw": 0.05}
_DIGITS_DECAY = 5e-3

_recipe_options = together(
    preset_option,
    click.option("--dataset", default="digits", show_default=True, help=f"One of {', '.join(data.NAMES)}."),
    data_dir_option,
    click.option("--augment/--no-augment", default=True, show_default=True, help="Vary the training images at random."),
    click.option("--epochs", type=click.IntRange(min=1), metavar="N", default=60, show_default=True),
    click.option("--batch-size", type=click.IntRange(min=1), metavar="N", default=32, show_default=True),
    click.option("--optimizer", type=click.Choice(OPTIMIZERS), default="sgd", show_default=True),
    click.option(
        "--lr",
        type=Number(above=0),
        show_default=", ".join(f"{rate} for {name}" for name, rate in _RATES.items()),
        help="Learning rate at the start.",
    ),
    click.option("--nesterov/--no-nesterov", default=True, show_default=True, help="Which momentum of 0.9 sgd has."),
    click.option(
        "--schedule",
        type=click.Choice(SCHEDULES),
        default="cosine",
        show_default=True,
        help=f"cosine: down to 0 at the end; step: times {STEP_FACTOR} every {STEP_EPOCHS} epochs; constant.",
    ),
    click.option(
        "--weight-decay",
        type=Number(least=0),
        show_default=f"{_DECAYS['sgd']} for sgd ({_DIGITS_DECAY} on digits), {_DECAYS['adamw']} for adamw",
        help="Pulls what --decay says towards 0.",
    ),
    click.option(
        "--decay",
        type=click.Choice(DECAYS),
        default="weights",
        show_default=True,
        help="What weight decay is for: weights, or biases and batch norm too.",
    ),
    click.option("--label-smoothing", type=Number(least=0, below=1), default=0.1, show_default=True),
    click.option(
        "--patience", type=click.IntRange(min=1), metavar="N", help="Stop after N epochs without a better one."
    ),
    click.option(
        "--seed",
        type=click.IntRange(min=0, max=2**63 - 1),
        metavar="N",
        default=0,
        envvar="SCCENGINE_SEED",
        show_envvar=True,
        show_default=True,
        help="For the weights, the order of the images and their variation.",
    ),
)

_checkpoint_options = together(
    click.option(
        "--checkpoint-steps", type=click.IntRange(min=1), metavar="N", help="A checkpoint also every N steps."
    ),
    click.option("--checkpoint-seconds", type=Number(above=0), help="A checkpoint also every so many seconds."),
    click.option(
        "--keep", type=click.IntRange(min=2), metavar="N", default=3, show_default=True, help="Checkpoints to keep."
    ),
)


@click.command()
@click.option("--out", type=Folder(), help="The run's folder.  [default: runs/DATE-TIME]")
@click.option("--resume", is_flag=True, help="Go on with the run in --out, from its newest checkpoint.")
@model_options
@_recipe_options
@device_option
@_checkpoint_options
@click.option("--dry-run", is_flag=True, help="Check data, model and one batch; train and write nothing.")
@click.option("--quiet", is_flag=True, help="Print nothing but warnings and errors.")
@click.pass_context
def train(
    ctx, out, resume, data_dir, device, epochs, checkpoint_steps, checkpoint_seconds, keep, dry_run, quiet, **options
):
    """Train a model and leave a run directory: weights, metrics, curves, confusion matrix, checkpoints.

    Without options it trains dscnet, a small network of depthwise and sliding-channel convolutions, on the handwritten
    digits that come with the package.

    A run that was stopped, killed or crashed goes on with --resume as if nothing had happened, to the bit; its options
    are those it was begun with, so only --out is needed. Where there is nothing to resume yet, --resume starts the
    run, so the same command can be repeated until it is done. A run can be lengthened with --resume --epochs N under
    the constant and step schedules; a cosine is laid out for its number of epochs.

    \b
    Examples:
      sccengine train
      sccengine train --out runs/narrow --groups 4 --overlap 0.33 --width 0.5
      sccengine train --out runs/narrow --resume
      sccengine train --scheme dw+pw --epochs 100 --seed 1
      sccengine train --preset cifar10 --model resnet18 --scheme dw+gpw --groups 4 --dry-run
    """
    if out is None:
        if resume:
            raise click.UsageError("--resume needs --out DIR, the run to go on with", ctx)
        out = Path("runs") / time.strftime("%Y%m%d-%H%M%S")
    options["lr"] = _RATES[options["optimizer"]] if options["lr"] is None else options["lr"]
    if options["weight_decay"] is None:
        digits = options["dataset"] == "digits" and options["optimizer"] == "sgd"
        options["weight_decay"] = _DIGITS_DECAY if digits else _DECAYS[options["optimizer"]]

    given = {name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    directory = RunDirectory(out)
    if directory.holds_run():
        if not resume:
            message = f"{out} already holds a run: add --resume to go on with it, or choose another --out"
            raise click.UsageError(message, ctx)
        saved = directory.read_config()
        if missing := [key for key in ("options", "training", "environment") if key not in saved]:
            raise RunDirectoryError(
                f"{directory.config}: has no {', '.join(missing)}: not begun by sccengine train, "
                f"which therefore cannot resume it"
            )
        _refuse_contradictions(ctx, given, options, saved, directory)
        options = saved["options"]
        epochs = epochs if "epochs" in given else saved["training"]["epochs"]
        data_dir = data_dir or saved["environment"].get("data_dir")
    elif resume and not quiet:
        click.echo(f"{out} holds no run yet: starting from the beginning", err=True)

    trainer = _build(
        options,
        epochs,
        data_dir,
        device,
        out=out,
        keep=keep,
        checkpoint_steps=checkpoint_steps,
        checkpoint_seconds=checkpoint_seconds,
        progress="quiet" if quiet else "auto",
    )
    if not quiet:
        click.echo(_headline(trainer, out))
    if dry_run:
        lines = check_run(trainer, epochs)
        if not quiet:
            click.echo("\n".join(lines))
        return
    try:
        trainer.fit(epochs, resume)
    except TrainingInterrupted as stop:
        click.echo(f"sccengine: {stop}: sccengine train --out {out} --resume", err=True)
        ctx.exit(130)
    if not quiet:
        _report(trainer, out)


def _refuse_contradictions(ctx, given, options, saved, directory):
    """A usage error naming both values if an option on the command line differs from what the run was begun with."""
    begun = saved["options"]
    for name in sorted(given & set(options)):
        if options[name] != begun.get(name):
            option = "--" + name.replace("_", "-")
            raise click.UsageError(
                f"{option} {options[name]} contradicts the run in {directory.path}, begun with {begun.get(name)}: "
                f"leave the option out, or start a new run in another folder",
                ctx,
            )


def _build(options, epochs, data_dir, device, **settings):
    """The Trainer of a run with these options; `settings` go to it as they are."""
    with usage_errors():
        train_set, test_set = data.load(options["dataset"], data_dir)
    config = {
        "options": options,
        "data": describe_data(options["dataset"], train_set),
    }
    config["model"] = {
        "name": options["model"],
        "scheme": options["scheme"],
        "groups": options["groups"],
        "overlap": options["overlap"],
        "width": options["width"],
        "stem": options["stem"],
        "in_channels": train_set.image_shape[0],
        "num_classes": train_set.num_classes,
    }
    backend.set_seed(options["seed"])
    with usage_errors():
        model = build_model(config)
        device = backend.resolve_device(device)
    model.to(device)
    config["environment"] = {"device": device, "data_dir": data_dir and str(data_dir)}
    train_loader = build_train_loader(config, train_set, device)
    test_loader = build_test_loader(config, test_set, device)
    return Trainer(
        model,
        build_optimizer(config, model),
        train_loader,
        test_loader,
        schedule=build_schedule(config, epochs, len(train_loader)),
        label_smoothing=options["label_smoothing"],
        patience=options["patience"],
        config=config,
        **settings,
    )


def _headline(trainer, out):
    """What is about to be trained on what, and where it goes."""
    options, environment = trainer.config["options"], trainer.config["environment"]
    scheme = options["scheme"]
    if scheme == "dw+scc":
        scheme += f" (groups {options['groups']}, overlap {options['overlap']:g})"
    elif "gpw" in scheme:
        scheme += f" (groups {options['groups']})"
    count = sum(parameter.size for parameter in trainer.model.parameters())
    images = len(trainer.train_loader.dataset), len(trainer.test_loader.dataset)
    return (
        f"{options['model']} with {scheme}, {count:,} parameters, on {environment['device']}\n"
        f"{options['dataset']}: {images[0]:,} images to learn from, {images[1]:,} held out; run directory {out}"
    )


def _report(trainer, out):
    """How it went, and what to do next."""
    last, best = trainer.history[-1], trainer.history.best()
    click.echo(
        f"test accuracy {last['test_accuracy']:.2%} after the last epoch, {best['test_accuracy']:.2%} at best "
        f"(epoch {best['epoch']}), in {sum(trainer.history['seconds']):.1f} s\n"
        f"{out}: curves.png, confusion.png, best.safetensors; next: sccengine evaluate {out}"
    )
