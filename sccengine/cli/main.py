"""``sccengine VERB ...``: finds the verb's file, and turns every way of failing into one line and an exit code.

Exit codes: 0 done, 1 failed, 2 wrong usage; after a signal 128 + its number, as shells have it: 130 after Ctrl-C, 143
after SIGTERM, 129 after a closed terminal (SIGHUP). SCCENGINE_DEBUG=1 shows the traceback behind a line.

A verb is a file of this package with a click command of the same name, imported only when it is asked for, so that
``sccengine --help`` loads neither NumPy nor Numba. A new one needs its file and its line in VERBS.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
import warnings

import click

from sccengine import __version__
from sccengine.cli.interrupted import exit_code

VERBS = {
    "train": "Train a model; without options, a small network on handwritten digits.",
    "evaluate": "Loss, accuracy and confusion matrix of a trained run.",
    "predict": "Classes and probabilities of image files.",
    "summary": "Windows, parameters and multiply-accumulates of a model, layer by layer.",
    "export": "A trained run or a model as an ONNX file, checked in onnxruntime.",
    "convert": "A trained dw+pw run made a dw+scc one, without training it anew.",
    "tune": "Finds the fastest kernels for a model on this machine, and remembers them.",
    "explore": "Search designs for the best accuracy at each cost; report and dashboard.",
    "certify": "Proofs about the kernels of a layer, a model or a run, with a hash.",
    "replay": "Any step of a recorded run again, to the bit: batch, loss, gradients, updates.",
    "diff": "The first step and tensor at which two runs part.",
    "compare": "Train the schemes side by side: parameters, MACs, accuracy, time, memory.",
    "bench": "Times of operators and training steps beside their floor; comparison and plots.",
    "download": "CIFAR-10 or CIFAR-100, checked; nothing that the default run needs.",
    "doctor": "What works on this machine, what is missing and how to get it.",
}


class LazyGroup(click.Group):
    """A group whose commands are the files named in VERBS."""

    def list_commands(self, ctx):
        return list(VERBS)

    def get_command(self, ctx, name):
        if name not in VERBS:
            return None
        return getattr(importlib.import_module(f"sccengine.cli.{name}"), name)

    def format_commands(self, ctx, formatter):
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    subcommand_metavar="VERB ...",
    invoke_without_command=True,
)
@click.version_option(__version__, prog_name="sccengine", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx):
    """Sliding-channel convolutions: train, evaluate and understand networks made of them.

    \b
    Examples:
      sccengine train                            learn handwritten digits (under a minute and a half)
      sccengine train --out runs/a --epochs 100  the same, longer, in a folder of your choice
      sccengine evaluate runs/a                  how good it became
      sccengine predict runs/a digit.png         what it makes of a picture
      sccengine summary --scheme dw+pw           what a network costs
      sccengine compare --out runs/schemes       what each scheme costs and gives
      sccengine doctor                           what works on this machine

    Exit codes: 0 done, 1 failed, 2 wrong usage, 130 after Ctrl-C, 143 after SIGTERM, 129 after a closed terminal.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


def main(arguments=None):
    """The console script: runs the command line and exits."""
    sys.exit(run(arguments))


def run(arguments=None):
    """Run the command line on a list of arguments (default: the process's own) and return the exit code."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            result = cli.main(args=arguments, prog_name="sccengine", standalone_mode=False)
            return result if isinstance(result, int) else 0
        except click.exceptions.Exit as error:
            return error.exit_code
        except click.Abort as error:
            if isinstance(error.__cause__, EOFError):  # which click takes for an end that somebody typed
                return _fail(_describe(error.__cause__), 1)
            return _fail("interrupted", exit_code(error.__cause__))
        except click.UsageError as error:
            verb = error.ctx.command_path if error.ctx else "sccengine"
            return _fail(f"{error.format_message()} ({verb} --help shows what is possible)", 2)
        except click.ClickException as error:
            return _fail(error.format_message(), error.exit_code)
        except Exception as error:
            return _fail(_describe(error), 1)


def _describe(error):
    """What happened, in words; the type's name only where the message would not stand alone."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    expected = isinstance(error, (RuntimeError, ValueError, TypeError, OSError, ImportError))
    return str(error) if expected and str(error) else f"{type(error).__name__}: {error}"


def _fail(message, code):
    if os.environ.get("SCCENGINE_DEBUG", "0") not in ("", "0"):
        traceback.print_exc()
    click.echo(f"sccengine: {' '.join(message.split())}", err=True)
    return code


def _show_warning(message, category, filename, lineno, file=None, line=None):
    click.echo(f"sccengine: warning: {' '.join(str(message).split())}", err=True)
