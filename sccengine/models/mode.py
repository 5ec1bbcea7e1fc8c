"""Looking at a model without leaving traces: evaluation mode, nothing recorded, every mode restored."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext

from sccengine.autograd import no_grad


@contextmanager
def evaluation_mode(model, recording=False):
    """Evaluation mode, without recording unless asked; afterwards every module of `model` is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with nullcontext() if recording else no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
