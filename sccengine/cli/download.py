"""``sccengine download``: the archive of a data set, checked by its SHA-256."""

from __future__ import annotations

import sys

import click

from sccengine.cli.options import data_dir_option, quiet_option
from sccengine.data.download import ARCHIVES
from sccengine.data.download import download as fetch


@click.command()
@click.argument("dataset", type=click.Choice(list(ARCHIVES)))
@data_dir_option
@quiet_option
def download(dataset, data_dir, quiet):
    """Bring the files of DATASET into the data folder, unless they are there.

    A transfer that breaks off is continued by the same command. A file whose SHA-256 is not the known one is not kept.

    \b
    Examples:
      sccengine download cifar10
      sccengine download cifar100 --data-dir ~/data
    """
    if quiet or not (sys.stdout and sys.stdout.isatty()):
        path = fetch(dataset, data_dir)
    else:
        path = _fetch_with_bar(dataset, data_dir)
    if not quiet:
        click.echo(f"{path}: complete, SHA-256 as known; next: sccengine train --preset {dataset}")


def _fetch_with_bar(dataset, data_dir):
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = TextColumn("{task.description}"), BarColumn(bar_width=32), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(ARCHIVES[dataset].name, total=None)
        return fetch(dataset, data_dir, lambda here, total: bar.update(task, completed=here, total=total))
