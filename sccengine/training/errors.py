"""What can stop a training run, each with a message that says where the run stands and how to go on."""

from __future__ import annotations

# What can go wrong with one run of many while the others are well: divergence, damaged files, memory, a full disk.
RUN_FAILURES = (ArithmeticError, MemoryError, OSError, RuntimeError, ValueError)


class CheckpointError(RuntimeError):
    """A checkpoint or weights file could not be written or read, or none of a run's checkpoints is usable."""


class RunDirectoryError(RuntimeError):
    """The run directory is in use, already holds a run, or holds one that contradicts what was asked for."""


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite.

    step    the optimizer step, counted from 1 over the whole run, whose loss it was
    layer   name of the first layer whose output is not finite, or None if the loss alone is not
    """

    def __init__(self, message, step, layer):
        super().__init__(message)
        self.step = step
        self.layer = layer


class Interrupted(KeyboardInterrupt):
    """A signal came, `signal` (signal.Signals): that of Ctrl-C, SIGTERM or SIGHUP."""

    def __init__(self, message, signal):
        super().__init__(message)
        self.signal = signal


class TrainingInterrupted(Interrupted):
    """A signal came, the step was finished and, where the run has a directory, a checkpoint saved."""
