"""Sequential (layers applied in order) and ModuleList (a list whose modules are registered).

In evaluation a Sequential runs depthwise separable blocks among its layers as one operator each: see fusion.py.
"""

from __future__ import annotations

import operator

from sccengine.nn import fusion
from sccengine.nn.module import Module


class _Indexed(Module):
    """What Sequential and ModuleList share: children reached by position, iterated in order."""

    def _add(self, name, module):
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__} takes Modules, got {type(module).__name__} at {name!r}")
        self.add_module(name, module)

    def _name_at(self, index):
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"{type(self).__name__} has {len(self)} modules, index {position} is out of range")
        return list(self._modules)[position]

    def __len__(self):
        return len(self._modules)

    def __iter__(self):
        return iter(self._modules.values())

    def __setitem__(self, index, module):
        setattr(self, self._name_at(index), module)

    def append(self, module):
        """Add a module at the end, named by its position; returns the container."""
        self._add(str(len(self)), module)
        return self


class Sequential(_Indexed):
    """Layers applied one after another. Takes layers, or one dict of name -> layer; slicing gives a Sequential."""

    def __init__(self, *layers):
        super().__init__()
        if len(layers) == 1 and isinstance(layers[0], dict):
            named = layers[0].items()
        else:
            named = ((str(position), layer) for position, layer in enumerate(layers))
        for name, layer in named:
            self._add(name, layer)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)(dict(list(self._modules.items())[index]))
        return self._modules[self._name_at(index)]

    def forward(self, x):
        if not self.training:
            return fusion.apply(list(self._modules.values()), x)
        for layer in self._modules.values():
            x = layer(x)
        return x


class ModuleList(_Indexed):
    """A list of modules that a model walks itself; there is no forward. Slicing gives a ModuleList."""

    def __init__(self, modules=()):
        super().__init__()
        self.extend(modules)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)(list(self._modules.values())[index])
        return self._modules[self._name_at(index)]

    def extend(self, modules):
        """Add modules at the end; returns the list."""
        for module in modules:
            self.append(module)
        return self
