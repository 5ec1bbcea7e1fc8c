"""Looking at a model without leaving traces: nothing recorded, every mode restored, every hook taken off again."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial

from sccengine import backend
from sccengine.autograd import no_grad


def device_of_model(model):
    """The device of the model's parameters; the default one where it has none."""
    parameter = next(model.parameters(), None)
    return backend.default_device() if parameter is None else parameter.device


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


def leaves(model):
    """{dotted name: module} of the layers of `model`, in order: its modules that hold no others."""
    return {name: module for name, module in model.named_modules() if next(module.children(), None) is None}


@contextmanager
def watched(modules, see):
    """Meanwhile ``see(name, module, inputs, output)`` is a forward hook of each of `modules`, a dict by name."""
    with ExitStack() as hooks:
        for name, module in modules.items():
            hooks.enter_context(module.register_forward_hook(partial(see, name)))
        yield
