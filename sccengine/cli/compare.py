"""``sccengine compare``: the schemes side by side, in one table and two pictures."""

from __future__ import annotations

import click

from sccengine.cli.interrupted import end_interrupted
from sccengine.cli.options import (
    Folder,
    Number,
    Several,
    Whole,
    device_option,
    given_options,
    model_option,
    quiet_option,
    recipe_options,
    refuse_contradictions,
    silent,
    size_options,
    together,
    usage_errors,
)
from sccengine.models import SCHEMES
from sccengine.training import RunDirectoryError, TrainingInterrupted
from sccengine.training.comparison import Comparison, Variant, read_settings, variants_of
from sccengine.training.comparison_report import markdown_table
from sccengine.training.job import choose_rates
from sccengine.training.run_directory import RunDirectory
from sccengine.wording import counted


class Seeds(click.ParamType):
    """``5`` stands for 0,1,2,3,4; ``7,`` and ``0,1,7`` for what they say."""

    name = "N | seed,seed,..."

    def convert(self, value, param, ctx):
        if isinstance(value, list):
            return value
        parts = [part.strip() for part in value.split(",")]
        number = Whole(min=0, max=2**63 - 1)
        if len(parts) > 1:
            return list(dict.fromkeys(number.convert(part, param, ctx) for part in parts if part))
        return list(range(Whole(min=1, max=10_000).convert(parts[0], param, ctx)))


_grid_options = together(
    click.option(
        "--schemes",
        type=Several(click.Choice(SCHEMES)),
        metavar="SCHEME,...",
        default=",".join(SCHEMES),
        show_default=True,
        help="What stands in the place of 3x3 convolutions.",
    ),
    click.option(
        "--groups",
        type=Several(Whole(min=1)),
        metavar="N,...",
        default="2",
        show_default=True,
        help="Channel groups cg of the grouped and sliding schemes.",
    ),
    click.option(
        "--overlap",
        type=Several(Number(least=0, below=1)),
        metavar="CO,...",
        default="0.5",
        show_default=True,
        help="Overlaps co of the sliding scheme.",
    ),
    click.option(
        "--seeds",
        type=Seeds(),
        metavar="N | SEED,...",
        default="3",
        show_default=True,
        help="How many seeds, from 0 on; or which, with commas.",
    ),
)


@click.command()
@click.option("--out", type=Folder(), required=True, help="The comparison's folder.")
@click.option("--resume", is_flag=True, help="Go on with the comparison in --out; finished runs are not repeated.")
@model_option
@_grid_options
@size_options
@recipe_options
@device_option
@click.option(
    "--rounds",
    type=Whole(min=2),
    metavar="N",
    default=30,
    show_default=True,
    help="Timed rounds of training steps, twice over, when all runs are done.",
)
@click.option("--dry-run", is_flag=True, help="List the runs and what their models cost; train and write nothing.")
@quiet_option
@click.pass_context
def compare(
    ctx, out, resume, schemes, groups, overlap, seeds, data_dir, device, epochs, rounds, dry_run, quiet, **options
):
    """Train the schemes side by side: the same data, recipe and seeds for each.

    Leaves compare.md, compare.csv and compare.json (parameters, multiply-accumulates, accuracy over the seeds, time
    and peak memory of a training step), compare.png (accuracy against cost), curves.png (errors by epoch), and
    a run directory for every run under cells/, which evaluate and predict understand.

    What was stopped or killed goes on with --resume, in the middle of a run if need be; its options are those it was
    begun with. Schemes, settings and seeds may be added so, other options may not change. A run that fails, for
    instance because its loss became infinite, is reported as such, the others go on, and the exit code is 1.

    \b
    Examples:
      sccengine compare --out runs/digits --seeds 5
      sccengine compare --out runs/digits --resume
      sccengine compare --out runs/overlap --schemes dw+gpw,dw+scc --groups 2,4 --overlap 0.25,0.5
      sccengine compare --out runs/vgg --preset cifar10 --model vgg16 --seeds 1 --dry-run
    """
    choose_rates(options)
    given = given_options(ctx)
    if RunDirectory(out).holds_run():
        raise click.UsageError(f"{out} holds a run: choose another --out for a comparison", ctx)
    if (out / "settings.json").exists():
        saved = read_settings(out)
        if not resume and not dry_run:
            message = f"{out} already holds a comparison: add --resume to go on with it, or choose another --out"
            raise click.UsageError(message, ctx)
        asked, begun = {**options, "epochs": epochs}, {**saved["options"], "epochs": saved["epochs"]}
        refuse_contradictions(ctx, given & set(asked), asked, begun, "comparison", out)
        options, epochs = saved["options"], saved["epochs"]
        variants, seeds_there = _grid_as_begun(out, saved)
        if not given & {"schemes", "groups", "overlap"}:
            schemes = []
        seeds = list(dict.fromkeys([*seeds_there, *(seeds if "seeds" in given else [])]))
    else:
        variants = []
    variants = list(dict.fromkeys([*variants, *variants_of(schemes, groups, overlap)]))
    with usage_errors():
        comparison = Comparison(options, epochs, variants, seeds, data_dir, device)
    if dry_run:
        if not quiet:
            click.echo(_plan(comparison))
        return
    try:
        with usage_errors():
            outcome = comparison.run(out, resume=resume, rounds=rounds, say=silent if quiet else click.echo)
    except TrainingInterrupted as stop:
        end_interrupted(ctx, stop, stop, f"sccengine compare --out {out} --resume")
    if not quiet:
        click.echo(
            f"\n{markdown_table(outcome)}\n{out}: compare.md, compare.csv, compare.json, compare.png, curves.png"
        )
    states = [cell["status"] for cell in outcome["cells"]]
    if failed := states.count("failed"):
        click.echo(f"sccengine: {failed} of {len(states)} runs failed; {out / 'compare.md'} says why", err=True)
        ctx.exit(1)


def _grid_as_begun(out, saved):
    """(variants, seeds) of the comparison in `out`."""
    try:
        return [Variant(**variant) for variant in saved["variants"]], saved["seeds"]
    except TypeError as error:
        raise RunDirectoryError(f"{out / 'settings.json'}: does not describe variants ({error})") from error


def _plan(comparison):
    """A line for each cell, with the exact counts of its model."""
    names = [comparison.name(*cell) for cell in comparison.cells()]
    width = max(map(len, names))
    lines = [f"{'run':<{width}}  {'parameters':>12}  {'MACs':>15}"]
    for name, (variant, _) in zip(names, comparison.cells()):
        params, macs = comparison.counts[variant]
        lines.append(f"{name:<{width}}  {params:>12,}  {macs:>15,}")
    planned = f"{counted(len(names), 'run')} of {counted(comparison.epochs, 'epoch')}"
    lines.append(f"dry run: {planned}; nothing was trained or written")
    return "\n".join(lines)
