"""``sccengine train``: a run from nothing, or from where it was left."""

from __future__ import annotations

import time
from pathlib import Path

import click

from sccengine.certify import certify_model, problems
from sccengine.cli.dry_run import check_run
from sccengine.cli.interrupted import end_interrupted
from sccengine.cli.options import (
    Folder,
    Number,
    Whole,
    device_option,
    given_options,
    model_options,
    quiet_option,
    recipe_options,
    refuse_contradictions,
    seed_option,
    together,
    usage_errors,
)
from sccengine.models import USES, setting_text
from sccengine.training import TrainingInterrupted
from sccengine.training.job import build_trainer, choose_rates
from sccengine.training.run_directory import RunDirectory

_patience_option = click.option(
    "--patience", type=Whole(min=1), metavar="N", help="Stop after N epochs without a better one."
)

_checkpoint_options = together(
    click.option("--checkpoint-steps", type=Whole(min=1), metavar="N", help="A checkpoint also every N steps."),
    click.option("--checkpoint-seconds", type=Number(above=0), help="A checkpoint also every so many seconds."),
    click.option("--keep", type=Whole(min=2), metavar="N", default=3, show_default=True, help="Checkpoints to keep."),
)


@click.command()
@click.option("--out", type=Folder(), help="The run's folder.  [default: runs/DATE-TIME]")
@click.option("--resume", is_flag=True, help="Go on with the run in --out, from its newest checkpoint.")
@model_options
@recipe_options
@_patience_option
@seed_option
@device_option
@_checkpoint_options
@click.option(
    "--certify",
    "certified",
    is_flag=True,
    help="Certify the model's kernels first, unless that was done before; refuse to train where they fail.",
)
@click.option("--dry-run", is_flag=True, help="Check data, model and one batch; train and write nothing.")
@quiet_option
@click.pass_context
def train(
    ctx,
    out,
    resume,
    data_dir,
    device,
    epochs,
    checkpoint_steps,
    checkpoint_seconds,
    keep,
    certified,
    dry_run,
    quiet,
    **options,
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
      sccengine train --groups 2,4,2 --overlap 0.5,0.25,0.5
      sccengine train --preset cifar10 --model resnet18 --scheme dw+gpw --groups 4 --dry-run
    """
    if out is None:
        if resume:
            raise click.UsageError("--resume needs --out DIR, the run to go on with", ctx)
        out = Path("runs") / time.strftime("%Y%m%d-%H%M%S")
    choose_rates(options)

    given = given_options(ctx)
    directory = RunDirectory(out)
    if directory.holds_run():
        if not resume:
            message = f"{out} already holds a run: add --resume to go on with it, or choose another --out"
            raise click.UsageError(message, ctx)
        saved = directory.read_config("options", "training", "environment")
        refuse_contradictions(ctx, given & set(options), options, saved["options"], "run", out)
        options = saved["options"]
        epochs = epochs if "epochs" in given else saved["training"]["epochs"]
        data_dir = data_dir or saved["environment"].get("data_dir")
    elif resume and not quiet:
        click.echo(f"{out} holds no run yet: starting from the beginning", err=True)

    with usage_errors():
        trainer = build_trainer(
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
    if certified:
        _certify(trainer)
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
        end_interrupted(ctx, stop, stop, f"sccengine train --out {out} --resume")
    if not quiet:
        _report(trainer, out)


def _certify(trainer):
    """Put the hash of the model's certificate into the run's config; RuntimeError where its kernels fail."""
    environment = trainer.config["environment"]
    certificate = certify_model(trainer.model, trainer.config["model"], environment["device"])
    if found := problems(certificate):
        raise RuntimeError(f"the kernels do not hold what certificates ask of them, nothing was trained: {found[0]}")
    environment["certificate"] = certificate["sha256"]


def _headline(trainer, out):
    """What is about to be trained on what, and where it goes."""
    options, environment = trainer.config["options"], trainer.config["environment"]
    scheme = options["scheme"]
    used = ", ".join(f"{name} {setting_text(options[name])}" for name in USES[scheme])
    scheme += f" ({used})" if used else ""
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
