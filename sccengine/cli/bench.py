"""``sccengine bench``: how fast the engine is here, how far from what the machine can do, and what has changed."""

from __future__ import annotations

from pathlib import Path

import click

from sccengine import backend
from sccengine.bench import catalog, harness, tables
from sccengine.bench.compare import compare
from sccengine.bench.rows import read_rows, write_rows
from sccengine.bench.selection import rows_with, select
from sccengine.cli.options import Folder, Number, OutputFile, Whole, device_option, usage_errors
from sccengine.files import write_json

_file = click.Path(dir_okay=False, path_type=Path)


def _use_threads(ctx, param, count):
    """Set them at once: whatever is asked for, more than there are is wrong usage."""
    if count is not None:
        with usage_errors():
            backend.set_num_threads(count)
    return count


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(catalog.names()), metavar="[NAME]...")
@device_option
@click.option("--list", "listing", is_flag=True, help="Print the cases and candidates that would run, and stop.")
@click.option(
    "--axis",
    "axes",
    multiple=True,
    metavar="NAME=VALUE[,VALUE]",
    help="Only cases whose axis has one of these values; a number that no case has is put into all. May be repeated.",
)
@click.option("--only", multiple=True, metavar="GLOB", help="Only candidates with such a name. May be repeated.")
@click.option("--variant", "variants", multiple=True, metavar="NAME", help="Only the bare kernels of this variant.")
@click.option("--small", is_flag=True, help="Tiny cases, for a quick look.")
@click.option("--min-samples", type=Whole(min=3), metavar="N", default=20, show_default=True)
@click.option(
    "--max-noise",
    type=Number(above=0),
    metavar="X",
    default=0.02,
    show_default=True,
    help="Sample until the median's relative error is this small,",
)
@click.option(
    "--timeout", type=Number(above=0), metavar="S", default=20, show_default=True, help="or for so long, a case."
)
@click.option("--cache", type=click.Choice(("warm", "cold", "both")), default="both", show_default=True)
@click.option("--threads", type=Whole(min=1), metavar="N", callback=_use_threads, help="On the CPU.  [default: all]")
@click.option(
    "--clock",
    type=click.Choice(("wall", "cpu")),
    default="wall",
    show_default=True,
    help="cpu: this process's processor time, which other processes cannot lengthen; one thread only.",
)
@click.option("--seed", type=Whole(min=0), metavar="N", help="Of the inputs.  [default: drawn anew, and kept]")
@click.option("--json", "json_file", type=OutputFile(), metavar="FILE", help="Write a row per case, after each case.")
@click.option("--compare", "pair", type=_file, nargs=2, metavar="A B", help="Compare two files of rows.")
@click.option("--plot", type=_file, metavar="FILE", help="Draw roofline and kernel ladder of a file of rows.")
@click.option("--out", type=Folder(), default=".", show_default=True, metavar="DIR", help="Where --plot draws.")
@click.pass_context
def bench(ctx, names, listing, axes, only, variants, small, json_file, pair, plot, out, device, **settings):
    """Time operators and training steps, after checking that they are right; compare and draw what was measured.

    NAME is one of scc, scc_layers, depthwise, conv2d, batch_norm, train_step, inference. Beside each median stand its
    spread and its share of the floor: the time that the arithmetic would take at the rate of this machine's own matrix
    product, or the traffic at its memory's rate, whichever is longer; both rates are measured first. A result that is
    wrong, before or after timing, or a time below the floor is refused, and the exit code is 1. Ctrl-C keeps the cases
    that are done.

    \b
    Examples:
      sccengine bench scc --list
      sccengine bench scc --axis C=64 --axis pass=forward --json before.json
      sccengine bench scc --axis N=8 --axis C=96 --axis O=96 --variant tiles
      sccengine bench depthwise batch_norm --cache warm --timeout 2
      sccengine bench --compare before.json after.json
      sccengine bench --plot before.json --out pictures
    """
    if bool(names or listing) + bool(pair) + bool(plot) > 1:
        raise click.UsageError("--compare, --plot and timing are three different things: ask for one of them", ctx)
    if pair:
        _compare(*pair, json_file)
    elif plot:
        _plot(plot, out, axes)
    elif listing:
        for benchmark, cases in _cases(names or catalog.names(), _device(device), axes, only, variants, small):
            for case in cases:
                candidates = ", ".join(candidate.name for candidate in case.candidates)
                click.echo(f"{benchmark.name}  {case.name}: {candidates}")
    elif not names:
        raise click.UsageError(f"which benchmark? Give one or more of {', '.join(catalog.names())}", ctx)
    else:
        with usage_errors():
            options = harness.Options(device=_device(device), **settings)
        ctx.exit(_measure(names, options, json_file, axes, only, variants, small))


def _cases(names, device, axes, only, variants, small):
    """(benchmark, its cases) of each name."""
    found = []
    for name in names:
        benchmark = catalog.load(name)
        with usage_errors():
            found.append((benchmark, select(benchmark, device, axes, only, variants, small, catalog.peers_of(name)[0])))
    return found


def _device(name):
    with usage_errors():
        return backend.resolve_device(name)


def _measure(names, options, json_file, *chosen):
    """Measure, print and keep the cases; the exit code."""
    work = _cases(names, options.device, *chosen)
    setters = dict.fromkeys(setter for name in names if (setter := catalog.peers_of(name)[1]))
    with usage_errors():
        session = harness.Session(options, set_threads=tuple(setters))
    click.echo(tables.machine_line(session.common["machine"], options.threads, session.ceilings.values))
    rows = []
    try:
        for benchmark, cases in work:
            mine = []
            for case in cases:
                mine.append(session.measure(benchmark.name, case))
                rows.append(mine[-1])
                click.echo("\n" + tables.case_table(mine[-1]))
                if json_file:
                    write_rows(json_file, rows)
            click.echo("\n" + tables.summary(mine, benchmark.headline))
    except KeyboardInterrupt:
        kept = f", kept in {json_file}" if json_file and rows else ""
        total = sum(len(cases) for _, cases in work)
        click.echo(f"\n{len(rows)} of {total} cases are done{kept}", err=True)
        raise
    refused = any(entry["status"] != "ok" for row in rows for entry in row["candidates"].values())
    return 1 if refused else 0


def _compare(first, second, json_file):
    a, b = read_rows(first), read_rows(second)
    with usage_errors():
        result = compare(a, b)
    click.echo(f"A = {first} of {a[0]['date'][:10]}, B = {second} of {b[0]['date'][:10]}\n{result}")
    if json_file:
        write_json(json_file, result.as_dict())


def _plot(file, folder, axes):
    from sccengine.bench.plots import save_plots

    rows = read_rows(file)
    with usage_errors():
        for path in save_plots(rows_with(rows, axes), folder):
            click.echo(path)
