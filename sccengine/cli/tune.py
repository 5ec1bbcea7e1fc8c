"""``sccengine tune``: which variant is the fastest for each contraction of a model, on this machine, kept for later."""

from __future__ import annotations

import json
import re
import time

import click
import numpy as np

import sccengine.functional as F
from sccengine import DataError, backend, get_matmul_precision, nn, set_matmul_precision, timings, tuning
from sccengine.autograd import Tensor
from sccengine.cli.options import (
    Number,
    OutputFile,
    Whole,
    device_option,
    flag,
    given_options,
    image_options,
    json_option,
    model_of,
    model_options,
    print_json,
    together,
    usage_errors,
)
from sccengine.kernels.cache_folder import writable
from sccengine.precision import PRECISIONS

# Of the budget that is left, a problem gets at most this many times its equal share: the largest come first.
_SHARE = 4
# A row of the shipped table must be worth its place.
_LEAST_SHIPPED_GAIN = 0.1
_OF_A_MODEL = ("model", "scheme", "width", "stem", "input_shape", "classes", "batch_size")


class LayerShape(click.ParamType):
    """A sliding-channel layer: batch size, input channels, output channels, side of the image."""

    name = "N,C,O,H"

    def convert(self, value, param, ctx):
        if isinstance(value, tuple):
            return value
        if not re.fullmatch(r"\d+(,\d+){3}", value) or min(map(int, value.split(","))) < 1:
            self.fail(f"{value!r} is not of the form 16,64,128,32: four numbers of at least 1", param, ctx)
        return tuple(map(int, value.split(",")))


class Passes(click.ParamType):
    """Names of launchers with commas between them."""

    name = "pass,..."

    def convert(self, value, param, ctx):
        names = value if isinstance(value, tuple) else tuple(value.split(","))
        if wrong := [name for name in names if name not in tuning.LAUNCHERS]:
            self.fail(f"{wrong[0]!r} is no pass: use {', '.join(tuning.LAUNCHERS)}", param, ctx)
        return names


_problem_options = together(
    model_options,
    image_options,
    click.option("--batch-size", type=Whole(min=1), metavar="N", default=32, show_default=True),
    click.option(
        "--shape",
        type=LayerShape(),
        help="One sliding-channel layer instead of a model: batch, channels, filters, side of the image.",
    ),
    click.option(
        "--passes",
        type=Passes(),
        default=tuning.LAUNCHERS,
        show_default="all",
        help=f"Only these of {', '.join(tuning.LAUNCHERS)}.",
    ),
    click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default="highest",
        show_default=True,
        help="What set_matmul_precision will have allowed.",
    ),
)


@click.command()
@_problem_options
@device_option
@click.option("--seconds", type=Number(above=0), default=60, show_default=True, help="Stop after about so long.")
@click.option("--again", is_flag=True, help="Time also what was timed before.")
@click.option("--dry-run", is_flag=True, help="List the problems and what would be timed; time and write nothing.")
@click.option("--show", is_flag=True, help="Print everything that is known, of all devices.")
@click.option("--forget", is_flag=True, help="Remove everything that is known.")
@click.option(
    "--ship",
    type=OutputFile(),
    help="Add what is known of the device, and clearly better than the rules, to a table like tuning_table.json.",
)
@json_option
@click.pass_context
def tune(ctx, passes, precision, device, seconds, again, dry_run, show, forget, ship, as_json, **problem):
    """Time all variants for each contraction of a model, and remember the fastest.

    The contractions are sliding-channel, pointwise and linear layers, forward and backward; which there are is found
    out by one step of a fresh model on random images. What is timed is written down at once, so Ctrl-C loses nothing,
    and the same command goes on with what is still missing. Training and Python then use what is known, without
    timing anything themselves, unless SCCENGINE_TUNING=off (or SCCENGINE_TUNING=search, which times what is new to it).

    The rule is what would be used without timings; it stays where nothing is clearly faster. GFLOP/s are those of the
    best variant, two operations a multiply-accumulate.

    \b
    Examples:
      sccengine tune
      sccengine tune --model vgg16 --input 3x32x32 --batch-size 128 --seconds 600
      sccengine tune --shape 16,64,128,32 --groups 4 --overlap 0.33 --passes forward
      sccengine tune --show
    """
    actions = {"--dry-run": dry_run, "--show": show, "--forget": forget, "--ship": ship is not None}
    if sum(actions.values()) > 1:
        raise click.UsageError(f"{' and '.join(name for name, on in actions.items() if on)} exclude each other", ctx)
    if show:
        return _show(tuning.store().records(), as_json)
    if forget:
        count = tuning.store().forget()
        return click.echo(f"{count} problems forgotten; {tuning.store().folder} is empty")
    with usage_errors():
        device = backend.resolve_device(device)
    if ship is not None:
        return _ship(ship, device)
    if device == "simulator" and not dry_run:
        raise click.UsageError("--device simulator: its times say nothing of a GPU's", ctx)
    tasks = [task for task in _collect(ctx, device, precision, problem) if task.launcher in passes]
    if not tasks:
        raise click.UsageError("there is no sliding-channel, pointwise or linear layer with such a pass", ctx)
    if dry_run:
        for task in tasks:
            known = "known" if task.record() else "new"
            click.echo(f"{_title(task.key)}: {known}; rule {task.rule}; of {', '.join(task.candidates)}")
        return click.echo(f"{len(tasks)} problems; nothing was timed or written")
    _tune(ctx, tasks, seconds, again, as_json)


def _collect(ctx, device, precision, problem):
    """The Tasks of one step of what the options name, those with most operations first, each once."""
    of_a_model = sorted(given_options(ctx) & set(_OF_A_MODEL))
    shape = problem.pop("shape")
    if shape and of_a_model:
        option = flag(of_a_model[0])
        raise click.UsageError(f"--shape is a layer of its own, which {option} says nothing of: leave one out", ctx)
    before = get_matmul_precision()
    set_matmul_precision(precision)
    try:
        with tuning.recording() as tasks:
            if shape:
                _step_of_a_layer(shape, problem, device)
            else:
                _step_of_a_model(problem, device)
    finally:
        set_matmul_precision(before)
    found = {json.dumps(task.key): task for task in tasks}
    return sorted(found.values(), key=lambda task: -task.operations)


def _step_of_a_layer(shape, problem, device):
    batch, channels, filters, side = shape
    for name in ("groups", "overlap"):
        if isinstance(problem[name], list):
            raise click.UsageError(f"--shape is one layer, for which --{name} is one value, got {problem[name]}")
    with usage_errors():
        layer = nn.SCC(channels, filters, groups=problem["groups"], overlap=problem["overlap"]).to(device)
    x = Tensor(_images(batch, channels, side, side), device=device, requires_grad=True)
    y = layer(x)
    y.backward(np.ones(y.shape, np.float32))


def _step_of_a_model(problem, device):
    batch, shape = problem.pop("batch_size"), problem["input_shape"]
    network, _ = model_of(**problem)
    network.to(device)
    images = Tensor(_images(batch, *shape), device=device)
    labels = Tensor(np.zeros(batch, np.int64), device=device)
    F.cross_entropy(network(images), labels).backward()


def _images(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _tune(ctx, tasks, seconds, again, as_json):
    """Time what is not known yet, until the time is up, and print what is known then."""
    store = tuning.store()
    if writable(store.folder) is None:
        raise RuntimeError(f"{store.folder} cannot be written: set SCCENGINE_CACHE_DIR to a folder that can")
    ended = time.monotonic() + seconds
    waiting = [task for task in tasks if again or task.record() is None]
    timed = 0
    interrupted = False
    try:
        for task in waiting:
            left = ended - time.monotonic()
            if timed and left <= 0:
                break
            store.save(task.search(max(left, 0) * min(1, _SHARE / (len(waiting) - timed))))
            timed += 1
            click.echo(f"{timed} of {len(waiting)}: {_title(task.key)}", err=True)
    except KeyboardInterrupt:
        interrupted = True
    _show([record for task in tasks if (record := task.record())], as_json)
    missing = len(waiting) - timed
    click.echo(
        f"{timed} problems timed, {len(tasks) - len(waiting)} known before; kept in {store.folder}"
        + (f"; {missing} are missing, which the same command goes on with" if missing else ""),
        err=True,
    )
    if interrupted:
        ctx.exit(130)


def _title(key):
    problem = key["problem"]
    columns, divides = problem["columns"]
    return (
        f"{key['operator']} {key['pass']}: {problem['windows']} {problem['in_channels']} -> {problem['out_channels']}, "
        f"K {problem['width']}, S {problem['shift']}, up to {columns} columns{'' if divides else ' (odd)'}, "
        f"{key['dtype']} {key['precision']}"
    )


def _show(records, as_json):
    """Records as a table, device by device."""
    if as_json:
        return print_json(records)
    if not records:
        return click.echo(f"nothing is known in {tuning.store().folder}")
    titles = [_title(record["key"]) for record in records]
    width = max(map(len, titles))
    device = None
    for title, record in sorted(zip(titles, records), key=lambda pair: json.dumps(pair[1]["key"]["device"])):
        if record["key"]["device"] != device:
            device = record["key"]["device"]
            click.echo(f"\n{', '.join(f'{value}' if n == 'name' else f'{n} {value}' for n, value in device.items())}")
            click.echo(
                f"{'problem':<{width}}  {'rule':<22} {'ms':>9}  {'best':<22} {'ms':>9} {'gain':>6} {'GFLOP/s':>8}"
            )
        click.echo(f"{title:<{width}}  {_result(record)}")


def _result(record):
    """What the timings of a problem say, as the right part of a line."""
    medians = {name: timings.median(taken) for name, taken in record["seconds"].items()}
    best = timings.best(record, medians)
    if best is None:
        return f"no variant works: {'; '.join(f'{name}: {why}' for name, why in record['failed'].items())}"
    rule, seconds = record["rule"], medians[best]
    mine = medians.get(rule)
    before = f"{'failed':>9}" if mine is None else f"{mine * 1e3:>9.4f}"
    gain = "-" if mine is None else f"{mine / seconds:.2f}"
    rate = record["operations"] / seconds / 1e9
    return f"{rule:<22} {before}  {best:<22} {seconds * 1e3:>9.4f} {gain:>6} {rate:>8.1f}"


def _ship(path, device):
    """Rows for the table from what is known of a device: where the best is clearly better than the rule."""
    table = _read_table(path)
    rows = {json.dumps(row["for"], sort_keys=True): row for row in table["rows"]}
    current = [record for record in tuning.store().records() if tuning.is_current(record, device)]
    for record in current:
        key = tuning.family_key(record["key"])
        best, times = timings.best(record, record["seconds"]), record["seconds"]
        text = json.dumps(key, sort_keys=True)
        rows.pop(text, None)
        if best is None or record["rule"] not in times:
            continue
        gain = timings.median(times[record["rule"]]) / timings.median(times[best])
        if gain > 1 + _LEAST_SHIPPED_GAIN:
            rows[text] = {"for": key, "variant": best, "gain": round(gain, 2)}
    lines = ",\n".join(f"  {json.dumps(rows[text])}" for text in sorted(rows))
    path.write_text(f'{{\n "about": {json.dumps(table["about"])},\n "rows": [\n{lines}\n ]\n}}\n', encoding="utf-8")
    click.echo(f"{path}: {len(rows)} rows, after {len(current)} problems timed on this device")


def _read_table(path):
    """The table in the file, an empty one where there is no file."""
    if not path.exists():
        return {"about": "", "rows": []}
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        _ = table["about"], [row["for"] for row in table["rows"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected a table that sccengine tune --ship wrote ({error!r})") from error
    return table
