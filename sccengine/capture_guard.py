"""What a captured step has built in, and whether it is still so: the first thing that is not is named."""

from __future__ import annotations

_PLAIN = (bool, int, float, str, tuple, type(None))
_ABSENT, LENGTH = object(), object()


class StepChanged(RuntimeError):
    """What a step was captured with is no longer so."""


class Guard:
    """Over the tensors and modules that a capture met, and what it was told of.

    tensors   Tensors whose arrays are built in
    modules   Modules that were called
    fixed     (table, key, value, name): table[key] is still the value; with the key LENGTH, len(table) is
    asked     (question, answer, name): question() still gives the answer
    """

    def __init__(self, tensors, modules, fixed, asked):
        names = _names(modules)
        self._tensors = [
            (t, t.array, t.requires_grad, names.get(id(t), f"a tensor of shape {t.shape} that the step reads"))
            for t in tensors
        ]
        self._fixed = [entry for module in modules for entry in _fixed_in_module(module, names)] + fixed
        self._asked = asked

    def check(self):
        """Raises StepChanged, a RuntimeError, that names what has changed, with both values where they can be shown."""
        for tensor, array, requires_grad, name in self._tensors:
            if tensor.array is not array:
                raise _changed(f"{name} was moved or replaced (.to(), .data = ...)")
            if tensor.requires_grad is not requires_grad:
                raise _changed(f"requires_grad of {name} was {requires_grad} and is {tensor.requires_grad} now")
        for table, key, value, name in self._fixed:
            found = len(table) if key is LENGTH else table.get(key, _ABSENT)
            if found is value or (isinstance(value, _PLAIN) and type(found) is type(value) and found == value):
                continue
            if not isinstance(value, _PLAIN) or not isinstance(found, _PLAIN):
                raise _changed(f"{name} was moved or replaced")
            raise _changed(f"{name} was {value!r} and is {found!r} now")
        for question, answer, name in self._asked:
            if (found := question()) != answer:
                raise _changed(f"{name} was {answer!r} and is {found!r} now")


def _changed(what):
    return StepChanged(f"captured step: {what} since the step was captured: capture it anew with capture_step")


def _names(modules):
    """{id: dotted name} of every module and parameter below the modules called, by the largest module they are in."""
    names = {}
    for root in sorted(modules, key=lambda module: -sum(1 for _ in module.modules())):
        for path, module in root.named_modules():
            names.setdefault(id(module), path or type(root).__name__)
        for path, parameter in root.named_parameters():
            names.setdefault(id(parameter), f"parameter {path}")
    return names


def _fixed_in_module(module, names):
    """Entries of ``fixed``: the module's settings and mode, and what is registered in it."""
    name = names[id(module)]
    yield vars(module), LENGTH, len(vars(module)), f"the number of attributes of {name}"
    for key, value in vars(module).items():
        if isinstance(value, dict):
            kind = key.strip("_").replace("_", " ")
            yield value, LENGTH, len(value), f"the number of {kind} of {name}"
            for entry, part in value.items():
                yield value, entry, part, f"{name}.{entry}"
        elif isinstance(value, _PLAIN):
            yield vars(module), key, value, f"{name}.{key}"
