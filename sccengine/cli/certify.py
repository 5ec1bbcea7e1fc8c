"""``sccengine certify``: proofs about the kernels of a layer, a model or a run, as one JSON file with a hash."""

from __future__ import annotations

from pathlib import Path

import click

from sccengine import backend, models
from sccengine.certify import Layer, certify_layer, certify_model, problems, read_certificate
from sccengine.cli.options import (
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
from sccengine.files import write_json
from sccengine.training.job import build_model
from sccengine.training.run_directory import RunDirectory

_OF_A_LAYER = ("in_channels", "out_channels")
_count = Whole(min=1)

_subject_options = together(
    click.option("--layer", type=click.Choice(["scc"]), help="One sliding-channel layer instead of a model."),
    click.option("--in", "in_channels", type=_count, metavar="C", help="Input channels of the layer."),
    click.option("--out", "out_channels", type=_count, metavar="O", help="Output channels of the layer."),
    model_options,
    image_options,
)


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path), required=False)
@_subject_options
@click.option(
    "--save",
    type=OutputFile(),
    metavar="FILE",
    help="Write the certificate there; that of a run is also kept in the run, as certificate.json.",
)
@click.option(
    "--verify",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Only check that a certificate is intact; with --again, that it comes out the same here.",
)
@click.option("--again", is_flag=True, help="Do not take what is known of a layer from earlier.")
@device_option
@json_option
@click.pass_context
def certify(ctx, run, layer, in_channels, out_channels, save, verify, again, device, as_json, **settings):
    """Certify the kernels of RUN's model, of a model, or of a layer, on this machine.

    \b
    For each distinct layer with weights, all variants of its kernels, in float32 and float64:
      triples    every (filter, tap, channel) that forward, input gradient and weight gradient touch, asked of the
                 kernels with one-hot operands and read off the tables of tiles, is the same set, the definition's
      gradcheck  gradients agree with central differences in float64
      repeats    repeated runs on 1 and 2 threads have the same bits (of variants that promise it)

    What was found is remembered, so training runs and benchmark rows carry the hash of their certificate. Exit code 1
    if something does not hold.

    \b
    Examples:
      sccengine certify --layer scc --in 64 --out 128 --groups 2 --overlap 0.33
      sccengine certify --model dscnet --scheme dw+scc --input 1x8x8 --save dscnet.json
      sccengine certify runs/digits
      sccengine certify --verify dscnet.json --again
    """
    given = given_options(ctx)
    if verify is not None:
        if run is not None or given & {*settings, "layer", *_OF_A_LAYER, "save"}:
            raise click.UsageError("--verify takes what to certify from its file: give --again and --device alone", ctx)
        _verify(ctx, verify, again, device, as_json)
        return
    with usage_errors():
        device = backend.resolve_device(device)
    certificate = _certified(ctx, given, run, layer, in_channels, out_channels, device, again, settings)
    if save is not None:
        write_json(save, certificate)
    if run is not None:
        write_json(RunDirectory(run).certificate, certificate)
    _finish(ctx, certificate, as_json)


def _verify(ctx, file, again, device, as_json):
    expected = read_certificate(file)
    note = f"{file}: intact"
    if again:
        subject = dict(expected["content"]["subject"])
        with usage_errors():
            device = backend.resolve_device(device)
        if "layer" in subject:
            found = certify_layer(Layer(subject.pop("layer"), subject), device, again)
        else:
            found = certify_model(models.build(**subject), subject, device, again, _tell)
        if found["sha256"] != expected["sha256"]:
            raise click.ClickException(f"{file}: intact, but not what comes out here: {_change(expected, found)}")
        note += ", and the same comes out here"
    _finish(ctx, expected, as_json, note)


def _certified(ctx, given, run, layer, in_channels, out_channels, device, again, settings):
    if layer is not None:
        if in_channels is None or out_channels is None:
            raise click.UsageError("--layer needs --in C and --out O, its channels", ctx)
        if wrong := given & {"model", "scheme", "width", "stem", "input_shape", "classes"} or run and {"RUN"}:
            raise click.UsageError(f"--layer does not go with {sorted(wrong)[0]}", ctx)
        with usage_errors():
            asked = Layer.scc(in_channels, out_channels, settings["groups"], settings["overlap"])
        return certify_layer(asked, device, again)
    if wrong := given & set(_OF_A_LAYER):
        raise click.UsageError(f"--{sorted(wrong)[0].partition('_')[0]} is for --layer scc", ctx)
    if run is not None:
        if wrong := given & set(settings):
            raise click.UsageError(f"the model is that of {run}: leave out {flag(sorted(wrong)[0])}", ctx)
        config = RunDirectory(run).read_config("model", "data")
        described, model = config["model"], build_model(config)
    else:
        model, described = model_of(**settings)
    return certify_model(model, described, device, again, _tell)


def _tell(layer, place, count):
    click.echo(f"{place}/{count}: {layer}", err=True)


def _finish(ctx, certificate, as_json, note=None):
    if as_json:
        print_json(certificate)
    else:
        _print(certificate)
        if note:
            click.echo(note)
    if not certificate["content"]["holds"]:
        ctx.exit(1)


def _print(certificate):
    content = certificate["content"]
    for part in content["layers"]:
        settings = ", ".join(f"{name} {value}" for name, value in part["settings"].items())
        click.echo(f"{part['operator']} ({settings})")
        if part["names"]:
            click.echo(f"  is         {', '.join(part['names'])}")
        if triples := part["triples"]:
            kernels = triples["kernels"]
            whole = [f"{name} ({', '.join(dtypes)})" for name, dtypes in kernels.items()]
            click.echo(f"  triples    {triples['count']:,} in the definition, {triples['plans']} tables, {_few(whole)}")
        shares = [share for share in part["gradcheck"].values() if share is not None]
        worst = f"off by at most {max(shares):.2g} of what is allowed" if shares else "agrees"
        click.echo(f"  gradcheck  {_few(list(part['gradcheck']))}: {worst}")
        repeats = part["repeats"]
        threads = f" on {' and '.join(map(str, repeats['threads']))} threads" if len(repeats["threads"]) > 1 else ""
        click.echo(f"  repeats    {_few(repeats['same'])}: the same bits in {repeats['runs']} runs{threads}")
        if repeats["not_deterministic"]:
            click.echo(f"             not deterministic: {', '.join(repeats['not_deterministic'])}")
    for problem in problems(certificate):
        click.echo(f"FAILS: {problem}")
    verdict = "holds" if content["holds"] else "does NOT hold"
    click.echo(f"{verdict} on {content['device']['name']}; sha256 {certificate['sha256']}")


def _few(names):
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:5])} and {len(names) - 5} more"


def _change(expected, certificate):
    """Which part of the contents is another one."""
    for name, value in expected["content"].items():
        here = certificate["content"].get(name)
        if here != value:
            return f"{name} is another" if isinstance(value, list) else f"{name} was {value}, is {here}"
    return "it has other parts"
