"""Options that several verbs share, and their types."""

from __future__ import annotations

import json
import math
import os
import re
from contextlib import contextmanager
from pathlib import Path

import click
from click.core import ParameterSource

from sccengine import DataError, data
from sccengine.cli.presets import preset_option
from sccengine.models import MODELS, SCHEMES, STEMS, build, check_image_size
from sccengine.training.job import (
    DECAY_RATES,
    DECAYS,
    DIGITS_DECAY,
    OPTIMIZERS,
    RATES,
    RECIPE,
    SCHEDULES,
    STEP_EPOCHS,
    STEP_FACTOR,
)


class Number(click.ParamType):
    """A finite number within bounds; `above` excludes its value, `least` and `below` as they say."""

    name = "number"

    def __init__(self, above=None, least=None, below=None):
        self.above, self.least, self.below = above, least, below

    def convert(self, value, param, ctx):
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number", param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        for wrong, text in (
            (self.above is not None and not number > self.above, f"must be above {self.above}"),
            (self.least is not None and not number >= self.least, f"must be at least {self.least}"),
            (self.below is not None and not number < self.below, f"must be below {self.below}"),
        ):
            if wrong:
                self.fail(f"{value} {text}", param, ctx)
        return number


class Whole(click.IntRange):
    """A whole number within bounds."""

    name = "whole number"  # what click's messages call it


class PerLayer(click.ParamType):
    """A value of another type for all layers, or a list of them, one for each, written with commas between them."""

    def __init__(self, kind):
        self.kind = kind
        self.name = f"{kind.name}[,...]"

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        values = [self.kind.convert(part.strip(), param, ctx) for part in value.split(",")]
        return values[0] if len(values) == 1 else values


class Several(click.ParamType):
    """Values of another type with commas between them; a text without commas is one."""

    def __init__(self, kind):
        self.kind = kind
        self.name = f"{kind.name},..."

    def convert(self, value, param, ctx):
        if isinstance(value, list):
            return value
        return list(dict.fromkeys(self.kind.convert(part.strip(), param, ctx) for part in value.split(",")))


class Folder(click.Path):
    """A path that an empty text is not: it would silently be the current folder."""

    def __init__(self):
        super().__init__(path_type=Path)

    def convert(self, value, param, ctx):
        if value == "":
            self.fail("an empty text names no folder; the current one is .", param, ctx)
        return super().convert(value, param, ctx)


class OutputFile(click.Path):
    """A file to be written later: that it cannot be is said at once, not after the work whose result it would hold."""

    def __init__(self):
        super().__init__(dir_okay=False, path_type=Path)

    def convert(self, value, param, ctx):
        path = super().convert(value, param, ctx)
        folder = path.parent
        if not folder.is_dir():
            self.fail(f"{path} cannot be written: there is no folder {folder}", param, ctx)
        if not os.access(folder, os.W_OK | os.X_OK):
            self.fail(f"{path} cannot be written: folder {folder} does not allow it", param, ctx)
        return path


class Shape(click.ParamType):
    """Channels, height and width, written 3x32x32 or 3,32,32."""

    name = "CxHxW"

    def convert(self, value, param, ctx):
        if isinstance(value, tuple):
            return value
        if not re.fullmatch(r"\d+[x,]\d+[x,]\d+", value):
            self.fail(f"{value!r} is not of the form 3x32x32 (channels x height x width)", param, ctx)
        shape = tuple(map(int, re.split("[x,]", value)))
        if min(shape) < 1:
            self.fail(f"{value}: every size must be at least 1", param, ctx)
        return shape


def together(*options):
    """One decorator of several options, in the order in which they are listed in the help."""

    def decorate(function):
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def given_options(ctx):
    """The names of the parameters that stand on the command line; all others have their defaults."""
    return {name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}


def flag(name):
    """The option that gives a parameter its value."""
    return "--input" if name == "input_shape" else "--" + name.replace("_", "-")


image_options = together(
    click.option("--input", "input_shape", type=Shape(), default="1x8x8", show_default=True, help="Size of one image."),
    click.option("--classes", type=Whole(min=1), metavar="N", default=10, show_default=True),
)


size_options = together(
    click.option(
        "--width", type=Number(above=0), default=1.0, show_default=True, help="Multiplies the numbers of channels."
    ),
    click.option(
        "--stem",
        type=click.Choice(STEMS),
        default="cifar",
        show_default=True,
        help="First layers: for small images, or for large ones.",
    ),
)

sliding_options = together(
    click.option(
        "--groups",
        type=PerLayer(Whole(min=1)),
        metavar="N[,N...]",
        default=2,
        show_default=True,
        help="Channel groups cg: a filter reads C / cg channels. With commas: one for each replaced layer.",
    ),
    click.option(
        "--overlap",
        type=PerLayer(Number(least=0, below=1)),
        metavar="CO[,CO...]",
        default=0.5,
        show_default=True,
        help="Overlap co of neighbouring windows, 0 <= co < 1; with commas likewise.",
    ),
)

model_settings = together(
    click.option(
        "--scheme",
        type=click.Choice(SCHEMES),
        default="dw+scc",
        show_default=True,
        help="What replaces a 3x3 convolution.",
    ),
    sliding_options,
    size_options,
)

model_option = click.option("--model", type=click.Choice(list(MODELS)), default="dscnet", show_default=True)

model_options = together(model_option, model_settings)

device_option = click.option(
    "--device",
    envvar="SCCENGINE_DEVICE",
    show_envvar=True,
    default="auto",
    show_default=True,
    help="cpu, cuda, cuda:1, simulator, or auto: a GPU if one works, else the CPU.",
)

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    envvar="SCCENGINE_DATA_DIR",
    show_envvar=True,
    help="Where the data set's files are (not needed for those that come with the package).",
)

dataset_option = click.option(
    "--dataset", default=RECIPE["dataset"], show_default=True, help=f"One of {', '.join(data.NAMES)}."
)

learning_options = together(
    click.option("--batch-size", type=Whole(min=1), metavar="N", default=RECIPE["batch_size"], show_default=True),
    click.option("--optimizer", type=click.Choice(OPTIMIZERS), default=RECIPE["optimizer"], show_default=True),
    click.option(
        "--lr",
        type=Number(above=0),
        show_default=", ".join(f"{rate} for {name}" for name, rate in RATES.items()),
        help="Learning rate at the start.",
    ),
    click.option(
        "--nesterov/--no-nesterov",
        default=RECIPE["nesterov"],
        show_default=True,
        help="Which momentum of 0.9 sgd has.",
    ),
    click.option(
        "--schedule",
        type=click.Choice(SCHEDULES),
        default=RECIPE["schedule"],
        show_default=True,
        help=f"cosine: down to 0 at the end; step: times {STEP_FACTOR} every {STEP_EPOCHS} epochs; constant.",
    ),
    click.option(
        "--weight-decay",
        type=Number(least=0),
        show_default=f"{DECAY_RATES['sgd']} for sgd ({DIGITS_DECAY} on digits), {DECAY_RATES['adamw']} for adamw",
        help="Pulls what --decay says towards 0.",
    ),
    click.option(
        "--decay",
        type=click.Choice(DECAYS),
        default=RECIPE["decay"],
        show_default=True,
        help="What weight decay is for: weights, or biases and batch norm too.",
    ),
    click.option(
        "--label-smoothing", type=Number(least=0, below=1), default=RECIPE["label_smoothing"], show_default=True
    ),
)

recipe_options = together(
    preset_option,
    dataset_option,
    data_dir_option,
    click.option(
        "--augment/--no-augment",
        default=RECIPE["augment"],
        show_default=True,
        help="Vary the training images at random.",
    ),
    click.option("--epochs", type=Whole(min=1), metavar="N", default=60, show_default=True),
    learning_options,
)

seed_option = click.option(
    "--seed",
    type=Whole(min=0, max=2**63 - 1),
    metavar="N",
    default=0,
    envvar="SCCENGINE_SEED",
    show_envvar=True,
    show_default=True,
    help="For the weights, the order of the images and their variation.",
)

quiet_option = click.option("--quiet", is_flag=True, help="Print nothing but warnings and errors.")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")

run_argument = click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))


def silent(what):
    """In the place of a function that tells the user."""


def print_json(value):
    """Print `value` as indented JSON."""
    click.echo(json.dumps(value, indent=2))


def model_of(model, input_shape, classes, **settings):
    """(model of the options, its settings for models.build); a usage error where there is none for such images."""
    settings = {"name": model, **settings, "in_channels": input_shape[0], "num_classes": classes}
    with usage_errors():
        network = build(**settings)
        check_image_size(network, input_shape[1:])
    return network, settings


def refuse_contradictions(ctx, options, asked, begun, kind, place):
    """A usage error that names both values of the first of `options` that is not what a run, say, was begun with."""
    for name in sorted(options):
        if asked[name] != begun.get(name):
            raise click.UsageError(
                f"{flag(name)} {asked[name]} contradicts the {kind} in {place}, begun with {begun.get(name)}: "
                f"leave the option out, or start a new {kind} in another folder",
                ctx,
            )


@contextmanager
def usage_errors():
    """A setting that the library refuses is a usage error of the command line."""
    try:
        yield
    except DataError:  # the setting was understood, it is the file that is bad
        raise
    except (ValueError, TypeError) as error:
        raise click.UsageError(str(error), click.get_current_context()) from error
