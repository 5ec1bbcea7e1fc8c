"""``sccengine diff``: where two runs part."""

from __future__ import annotations

from pathlib import Path

import click

from sccengine import training
from sccengine.cli.options import data_dir_option, json_option, print_json, usage_errors

_folder = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("run_a", type=_folder)
@click.argument("run_b", type=_folder)
@click.option(
    "--replay/--no-replay",
    default=True,
    show_default=True,
    help="Take steps again to find the first that differs; else only what was recorded is compared.",
)
@click.option("--device", help="Where steps are taken again.  [default: where each run was begun]")
@data_dir_option
@json_option
def diff(run_a, run_b, replay, device, data_dir, as_json):
    """Find the first step and tensor at which RUN_A and RUN_B part, bit by bit.

    Settings, checkpoints and metrics are compared first, then the steps in question taken again in both runs, side by
    side. The folders are only read. Exit code 0 if the runs are the same as far as both go, 1 if they part.

    \b
    Examples:
      sccengine diff runs/a runs/b
      sccengine diff runs/a runs/b --json
      sccengine diff runs/cpu runs/cuda --no-replay
    """
    runs = [training.Replay(path, device=device, data_dir=data_dir) for path in (run_a, run_b)]
    with usage_errors():
        found = training.diff(*runs, replay=replay)
    if as_json:
        print_json(found.as_dict())
    else:
        _print(found)
    if found.parting is not None:
        click.get_current_context().exit(1)


def _print(found):
    for title, changed in (("settings", found.settings), ("environment", found.environment)):
        for key, (one, other) in changed.items():
            click.echo(f"{title}: {key.removeprefix('environment.')} is {one!r} in the first, {other!r} in the second")
    for note in found.notes:
        click.echo(f"note: {note}")
    if found.replayed:
        click.echo(f"{found.replayed} step{'' if found.replayed == 1 else 's'} of each taken again")
    if found.parting is not None:
        click.echo(found.parting)
    elif found.identical:
        click.echo(f"identical: the same to the bit up to their end, step {found.same_until}")
    elif found.same_until < 0:
        click.echo("nothing is recorded of the same step in both")
    else:
        ends = " and ".join(map(str, found.ends))
        click.echo(f"the same to the bit up to step {found.same_until}; they are recorded up to steps {ends}")
