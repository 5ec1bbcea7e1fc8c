"""``sccengine explore``: searches the designs of a model for the best accuracy at each cost."""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path

import click

from sccengine import backend
from sccengine.cli.explore_team import Team
from sccengine.cli.explore_text import Ticker, headline, outcome, status_json, status_text
from sccengine.cli.interrupted import end_interrupted, exit_code
from sccengine.cli.options import (
    Folder,
    Number,
    Several,
    Whole,
    device_option,
    given_options,
    json_option,
    print_json,
    quiet_option,
    recipe_options,
    refuse_contradictions,
    seed_option,
    silent,
    together,
    usage_errors,
)
from sccengine.exploration import OBJECTIVES, SAMPLERS, Plan, Space, Study
from sccengine.exploration.plan import DEFAULT_EPOCHS
from sccengine.exploration.postgres import without_password
from sccengine.exploration.search import choose_sampler, import_optuna
from sccengine.exploration.space import CHOICES
from sccengine.models import MODELS, SCHEMES, STEMS
from sccengine.training import TrainingInterrupted
from sccengine.training.job import choose_rates


class Duration(click.ParamType):
    """Seconds, or a number with s, m or h behind it."""

    name = "duration"

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d*)?)([smh]?)", value)
        seconds = found and float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]
        if not seconds:
            self.fail(f"{value!r} is no time; write 90, 90s, 10m or 2h", param, ctx)
        return seconds


class Limit(click.ParamType):
    """A cost and the most of it, ``params=10000``."""

    name = "cost=number"

    def convert(self, value, param, ctx):
        if isinstance(value, tuple):
            return value
        name, equals, number = value.partition("=")
        if not equals or name not in OBJECTIVES or name == "accuracy":
            costs = ", ".join(one for one in OBJECTIVES if one != "accuracy")
            self.fail(f"{value!r} is not of the form params=10000; costs are {costs}", param, ctx)
        return name, Number(above=0).convert(number, param, ctx)


_space_options = together(
    click.option(
        "--models",
        type=Several(click.Choice(list(MODELS))),
        metavar="MODEL,...",
        default="dscnet",
        show_default=True,
        help=f"Of {', '.join(MODELS)}.",
    ),
    click.option(
        "--schemes",
        type=Several(click.Choice(SCHEMES)),
        metavar="SCHEME,...",
        default="dw+scc",
        show_default=True,
        help="What may stand in the place of 3x3 convolutions.",
    ),
    click.option(
        "--widths",
        type=Several(Number(above=0)),
        metavar="W,...",
        default=",".join(map(str, Space.widths)),
        show_default=True,
        help="Multipliers of the numbers of channels.",
    ),
    click.option(
        "--groups",
        type=Several(Whole(min=1)),
        metavar="CG,...",
        default=",".join(map(str, Space.groups)),
        show_default=True,
        help="Channel groups; those that do not divide a layer's channels are left out there.",
    ),
    click.option(
        "--overlaps",
        type=Several(Number(least=0, below=1)),
        metavar="CO,...",
        default=",".join(map(str, Space.overlaps)),
        show_default=True,
        help="Overlaps of neighbouring windows.",
    ),
    click.option(
        "--per-layer/--global", default=False, show_default=True, help="Groups and overlap for each layer by itself."
    ),
    click.option("--stem", type=click.Choice(STEMS), default="cifar", show_default=True, help="First layers."),
)

_search_options = together(
    click.option(
        "--objectives",
        type=Several(click.Choice(list(OBJECTIVES))),
        metavar="NAME,...",
        default="accuracy,params",
        show_default=True,
        help=f"Of {', '.join(OBJECTIVES)}.",
    ),
    click.option(
        "--sampler",
        type=click.Choice(("auto", *SAMPLERS)),
        default="auto",
        show_default=True,
        help="auto: grid if the trials are enough for all designs, else nsga2 with Optuna, random without.",
    ),
    click.option("--trials", type=Whole(min=1), metavar="N", default=40, show_default=True, help="Designs to train."),
    click.option(
        "--limit",
        "limits",
        type=Limit(),
        multiple=True,
        metavar="COST=MOST",
        help="Costlier designs are not trained: params=10000 (may be repeated).",
    ),
    click.option(
        "--seeds",
        type=Whole(min=1),
        metavar="N",
        default=1,
        show_default=True,
        help="Trainings of each design, with seeds from --seed on; its accuracy is their mean.",
    ),
    click.option(
        "--ceiling",
        type=Number(above=0),
        default=1.0,
        show_default=True,
        help="Accuracy that no design is believed to exceed; what costs more than one that has it is not trained.",
    ),
    click.option(
        "--early/--no-early", default=True, show_default=True, help="Stop training what cannot reach the front."
    ),
)

_database_options = together(
    click.option(
        "--storage",
        metavar="URL",
        envvar="SCCENGINE_STORAGE",
        show_envvar=True,
        help="A postgresql:// URL: the study is there, and workers on many machines may share it.",
    ),
    click.option("--study", "name", metavar="NAME", help="Its name there.  [default: the folder's]"),
)

_work_options = together(
    click.option(
        "--time", "seconds", type=Duration(), metavar="TIME", help="Begin no trial later than that: 90s, 10m, 2h."
    ),
    click.option("--workers", type=Whole(1), metavar="N", default=1, show_default=True, help="Processes."),
)

_folder = click.argument("out", required=False, metavar="[DIR]", type=Folder())


@click.group(invoke_without_command=True, context_settings={"default_map": {"epochs": DEFAULT_EPOCHS}})
@click.option("--out", type=Folder(), help="The study's folder.  [default: runs/explore-DATE or -STUDY]")
@_database_options
@_space_options
@_search_options
@recipe_options
@seed_option
@_work_options
@device_option
@click.option("--dry-run", is_flag=True, help="Say what would be searched; train and write nothing.")
@quiet_option
@click.option("--member", is_flag=True, hidden=True)  # of a Team, whose first process says what stopped the search
@click.pass_context
def explore(ctx, out, storage, name, data_dir, seconds, workers, device, dry_run, quiet, member, **settings):
    """Search the designs of a model for those that no other beats: most accurate for what they cost.

    Designs are combinations of model, scheme, width, channel groups and overlap. Each is costed before it is trained,
    trained as `sccengine train` would, and stopped as soon as it can no longer reach the Pareto front. The folder
    holds an ordinary run directory for every training, which evaluate, predict and export understand.

    The same command goes on with a study that was stopped or killed; only --out is needed then. Run at the same time
    in other terminals, or on other machines that see the folder, it adds workers; --storage does so by a database,
    for machines that share nothing else. A worker that dies loses nothing: another takes its trial up.

    \b
    Examples:
      sccengine explore
      sccengine explore --out runs/mine --per-layer --objectives accuracy,macs --trials 100 --time 1h
      sccengine explore --out runs/mine                      # goes on, or adds a worker
      sccengine explore --seeds 3                            # means of three trainings: less left to chance
      sccengine explore --sampler random --schemes dw+gpw,dw+scc --groups 2,4 --limit params=8000
      sccengine explore --storage postgresql://me@host/lab --study vgg --models vgg16 --preset cifar10
      sccengine explore status runs/mine
      sccengine explore report runs/mine
      sccengine explore dashboard runs/mine
    """
    if ctx.invoked_subcommand is not None:
        return
    given = given_options(ctx)
    if out is None:
        if name is not None and storage is None:
            raise click.UsageError("--study names a study in a database, which --storage URL says", ctx)
        out = Path("runs") / (f"explore-{name}" if name else time.strftime("explore-%Y%m%d-%H%M%S"))
    with usage_errors():
        device = backend.resolve_device(device)
        study = Study(out, storage, name)
        begun = study.exists()
        plan = _plan_as_begun(ctx, study, given, settings) if begun else _new_plan(settings)
    if not quiet:
        click.echo(headline(study, plan, begun))
    if dry_run:
        return
    study.begin(plan)
    ticker = Ticker(study)
    with Team(workers - 1, out, storage, study.name, data_dir, device, seconds) as team:
        try:
            study.run(seconds=seconds, on_trial=silent if quiet else ticker, data_dir=data_dir, device=device)
            team.wait()
        except KeyboardInterrupt as stop:
            team.interrupt()
            if member:
                ctx.exit(exit_code(stop))
            reason = stop if isinstance(stop, TrainingInterrupted) else "interrupted; everything is saved"
            end_interrupted(ctx, stop, reason, _again(out, storage, study))
    if not quiet:
        ticker()
        click.echo(outcome(study))
    failed = [trial for trial in study.trials() if trial.state == "failed"]
    if failed:
        click.echo(
            f"sccengine: {len(failed)} trials failed, first {failed[0].number:04} ({failed[0].error}); "
            f"sccengine explore status {out} lists them",
            err=True,
        )
        ctx.exit(1)


@explore.command()
@_folder
@_database_options
@json_option
def status(out, storage, name, as_json):
    """Trials, front and rates of the study in DIR (or in a database), finished or not."""
    study = _existing(out, storage, name)
    if as_json:
        print_json(status_json(study))
    else:
        click.echo(status_text(study))


@explore.command()
@_folder
@_database_options
def report(out, storage, name):
    """Write report.html and its pictures into DIR: fronts, what matters, the best designs with their commands."""
    from sccengine.exploration.report import write_report

    study = _existing(out, storage, name)
    study.out.mkdir(parents=True, exist_ok=True)
    write_report(study.out, study.plan, study.trials())
    click.echo(f"{study.out / 'report.html'}")


@explore.command()
@_folder
@_database_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=Whole(min=1, max=65535), metavar="N", default=8080, show_default=True)
def dashboard(out, storage, name, host, port):
    """Show the study in DIR in optuna-dashboard, in a browser, until Ctrl-C; it follows what the workers do."""
    from sccengine.exploration.dashboard import serve

    study = _existing(out, storage, name)
    try:
        serve(study, host, port, lambda url: click.echo(f"{url} shows {study.store}; Ctrl-C ends it"))
    except OSError as error:
        raise RuntimeError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error


def _again(out, storage, study):
    """The command that goes on."""
    words = ["sccengine", "explore", "--out", str(out)]
    if storage is not None:
        words += ["--storage", without_password(storage), "--study", study.name]
    return shlex.join(words)


def _existing(out, storage, name):
    """The study that the arguments name; a usage error or RunDirectoryError where there is none."""
    if out is None and not (storage and name):
        raise click.UsageError("which study? DIR, or --storage URL --study NAME", click.get_current_context())
    with usage_errors():
        study = Study(out or Path("runs") / f"explore-{name}", storage, name)
    study.plan  # noqa: B018 - raises where there is no study
    return study


def _new_plan(settings):
    """The Plan of the options."""
    settings = {option: value for option, value in settings.items() if option != "preset"}
    space = Space(
        **{option: tuple(settings.pop(option)) for option in CHOICES},
        per_layer=settings.pop("per_layer"),
        stem=settings.pop("stem"),
    )
    search = ("objectives", "sampler", "trials", "epochs", "seed", "seeds", "ceiling", "early")
    search = {option: settings.pop(option) for option in search}
    if search["sampler"] == "auto":
        search["sampler"] = choose_sampler(space, search["trials"])
    elif search["sampler"] in ("nsga2", "tpe"):
        import_optuna()
    limits = dict(settings.pop("limits"))
    choose_rates(settings)
    return Plan(space=space, options=settings, limits=limits, **search)


def _plan_as_begun(ctx, study, given, settings):
    """The plan of a study that exists, for more trials if --trials says; a usage error for an option that differs."""
    plan = study.plan
    asked, begun = _flat(_new_plan(settings)), _flat(plan)
    settled = (given & set(settings)) - {"trials", "preset"} - ({"sampler"} if settings["sampler"] == "auto" else set())
    refuse_contradictions(ctx, settled, asked, begun, "study", study.store)
    return plan if "trials" not in given else Plan.from_dict({**plan.as_dict(), "trials": settings["trials"]})


def _flat(plan):
    """The settings of a plan by the names of their options."""
    values = plan.as_dict()
    return {**values.pop("options"), **values.pop("space"), **values}
