"""``sccengine replay``: one step of a recorded run, taken again."""

from __future__ import annotations

import click

from sccengine.cli.options import (
    OutputFile,
    Whole,
    data_dir_option,
    json_option,
    print_json,
    run_argument,
    usage_errors,
)
from sccengine.training import Replay

_SHOWN = 12


@click.command()
@run_argument
@click.option("--step", type=Whole(min=0), metavar="N", required=True, help="Counted from 1; 0: before the first.")
@click.option(
    "--save",
    type=OutputFile(),
    metavar="FILE",
    help="A .safetensors of weights after the step, gradients and batch; digests of the layers' outputs in its header.",
)
@click.option(
    "--confirm/--no-confirm",
    default=True,
    show_default=True,
    help="Go on to the next step of which the run recorded something, and compare.",
)
@click.option("--device", help="Where to compute it.  [default: where the run was begun]")
@data_dir_option
@json_option
def replay(run, step, save, confirm, device, data_dir, as_json):
    """Take step N of RUN, a run directory, again: its batch, loss, gradients and updates, to the bit.

    Starts from the newest checkpoint before the step that is kept, or from the beginning; RUN itself is only read. Then
    the run is followed to the next checkpoint or end of an epoch, and what comes out compared with what is recorded.
    Exit code 1 if it is not the same.

    \b
    Examples:
      sccengine replay runs/digits --step 100
      sccengine replay runs/digits --step 100 --save step-100.safetensors
      sccengine replay runs/digits --step 1 --json --no-confirm
    """
    replayed = Replay(run, device=device, data_dir=data_dir)
    with usage_errors():
        found = replayed.observe(step)
    start = replayed.origin
    if save is not None:
        found.save(save)
    agreement = replayed.confirm() if confirm else None
    if as_json:
        print_json({**found.as_dict(), "from_step": start, "caveats": replayed.caveats, "confirmed": agreement})
    else:
        _print(found, start, replayed.checkpoints)
        for caveat in replayed.caveats:
            click.echo(f"note: {caveat}")
        if save is not None:
            click.echo(f"{save}: {len(found.weights)} weights, {len(found.gradients)} gradients")
        if confirm:
            click.echo(_confirmed(agreement))
    if agreement is not None and not agreement["agrees"]:
        click.get_current_context().exit(1)


def _print(found, start, checkpoints):
    origin = f"from checkpoint {checkpoints[start].name}" if start in checkpoints else "from the run's beginning"
    if not found.step:
        click.echo(f"step 0, {origin}: the state before training")
    else:
        rates = ", ".join(f"{rate:.6g}" for rate in found.rates)
        click.echo(
            f"step {found.step} (epoch {found.epoch}, batch {found.batch}), {origin}\n"
            f"loss {found.loss!r}, {found.right} of {len(found.indices)} right, learning rate {rates}\n"
            f"images {_some(found.indices)}\n"
            f"labels {_some(found.labels)}"
        )
    rows = found.rows()
    width = max(len(row["name"]) for row in rows)
    click.echo(f"\n{'tensor':{width}}  {'shape':>14}  {'norm':>10}  {'gradient':>10}  {'update':>10}  digest")
    for row in rows:
        shape = " x ".join(map(str, row["shape"])) or "1"
        norms = "  ".join(f"{_number(row[key]):>10}" for key in ("norm", "gradient_norm", "update_norm"))
        click.echo(f"{row['name']:{width}}  {shape:>14}  {norms}  {row['digest']}")
    click.echo()


def _some(values):
    shown = " ".join(map(str, values[:_SHOWN]))
    return shown if len(values) <= _SHOWN else f"{shown} ... ({len(values)} in all)"


def _number(value):
    return "" if value is None else f"{value:.4g}"


def _confirmed(agreement):
    if agreement is None:
        return "nothing is recorded from this step on that it could be compared with"
    where = f"{' and '.join(agreement['with'])} (step {agreement['step']})"
    if agreement["agrees"]:
        return f"confirmed: followed to {where}, the same to the bit"
    return f"NOT the recorded run: followed to {where}, {agreement['differs']}"
