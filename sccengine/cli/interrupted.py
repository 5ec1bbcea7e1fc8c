"""How a verb ends that a signal has stopped."""

from __future__ import annotations

import signal

import click


def exit_code(stop):
    """128 + the number of the signal that a KeyboardInterrupt says, as shells have it; Ctrl-C's where it says none."""
    return 128 + getattr(stop, "signal", signal.SIGINT)


def end_interrupted(ctx, stop, reason, command):
    """Say why the work has ended and which command goes on with it, and exit."""
    click.echo(f"sccengine: {reason}: {command}", err=True)
    ctx.exit(exit_code(stop))
