"""Optimizer: parameter groups, their checks, the walk over parameters, and state for checkpoints."""

from __future__ import annotations

import numpy as np

from sccengine import backend
from sccengine.autograd import Parameter, Tensor
from sccengine.numeric import is_real


class Optimizer:
    """Base class. A subclass gives its defaults, ``check`` for one group's settings and ``update`` for its parameters.

    ``params`` are Parameters, or dicts {"params": Parameters, setting: value, ...} that override defaults for a group.
    ``state`` maps a Parameter to a dict of arrays of its shape and of plain numbers; the subclass names them all in
    ``state_arrays`` (they begin as ``initial`` everywhere) and ``state_numbers`` (they begin as 0), so that a foreign
    state is refused whole.
    """

    state_arrays = ()
    state_numbers = ()
    initial = 0.0
    # Settings that a captured step does not read anew.
    built_in = ()

    def __init__(self, params, defaults):
        self.defaults = defaults
        self.state = {}
        self.param_groups = []
        for group in self._as_groups(params):
            self.add_param_group(group)

    def check(self, group):
        """Raise ValueError where a group's settings make no sense."""
        raise NotImplementedError

    def update(self, parameters, gradients, group_number):
        """Change ``parameters`` of a group in place, all on one device; ``gradients`` are C-contiguous arrays.

        What changes from step to step is looked up in ``self.param_groups[group_number]`` inside a
        ``backend.host_value``: a captured step goes on reading it.
        """
        raise NotImplementedError

    def _as_groups(self, params):
        if isinstance(params, (Tensor, dict)):
            raise TypeError(f"{self._name}: params must be a list of Parameters or dicts, got {type(params).__name__}")
        try:
            params = list(params)
        except TypeError:
            raise TypeError(f"{self._name}: params must be a list of Parameters, got {type(params).__name__}") from None
        if not params:
            raise ValueError(f"{self._name}: params is empty; pass model.parameters()")
        return params if isinstance(params[0], dict) else [{"params": params}]

    def add_param_group(self, group):
        """Add {"params": Parameters, setting: value, ...}; settings left out take the optimizer's defaults."""
        if not isinstance(group, dict) or "params" not in group:
            raise TypeError(f"{self._name}: a parameter group is a dict with 'params', got {type(group).__name__}")
        params = group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        if not params:
            raise ValueError(f"{self._name}: a parameter group is empty")
        known = {id(p) for g in self.param_groups for p in g["params"]}
        for position, parameter in enumerate(params):
            if not isinstance(parameter, Parameter):
                raise TypeError(
                    f"{self._name}: params must hold Parameters, got {type(parameter).__name__} at position {position}"
                )
            if id(parameter) in known:
                raise ValueError(f"{self._name}: the parameter of shape {parameter.shape} is listed twice")
            known.add(id(parameter))
        unknown = sorted(set(group) - {"params"} - set(self.defaults))
        if unknown:
            raise ValueError(f"{self._name}: unknown settings {unknown} in a group; it has {sorted(self.defaults)}")
        group = {**self.defaults, **group, "params": params}
        self.check(group)
        self.param_groups.append(group)

    def __repr__(self):
        """As PyTorch shows it, and how many parameters each group has."""
        lines = []
        for number, group in enumerate(self.param_groups):
            settings = {**group, "params": len(group["params"])}
            lines.append(f"Parameter Group {number}")
            lines += [f"    {name}: {value}" for name, value in sorted(settings.items())]
        return "\n".join([f"{self._name} (", *lines, ")"])

    def step(self):
        """Update every parameter that has a gradient: on a GPU one launch for a group, or little more."""
        if (capture := backend.current_capture()) is not None:
            self._report_groups(capture)
        for number, group in enumerate(self.param_groups):
            by_device = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameters, gradients = by_device.setdefault(parameter.device, ([], []))
                    parameters.append(parameter)
                    gradients.append(gradient_of(parameter))
            for parameters, gradients in by_device.values():
                self.update(parameters, gradients, number)
                for parameter in parameters:
                    parameter.changed()
                if capture is not None:
                    self._report(capture, number, parameters)

    def _report_groups(self, capture):
        """Tell a capture which parameters there are."""
        capture.fix_length(self.param_groups, f"the number of {self._name}'s parameter groups")
        for number, group in enumerate(self.param_groups):
            owner = f"{self._name}'s parameter group {number}"
            capture.fix(group, "params", f"the list of parameters of {owner}")
            capture.fix_length(group["params"], f"the number of parameters of {owner}")

    def _report(self, capture, number, parameters):
        """Tell a capture what of this update it builds in."""
        for name in self.built_in:
            capture.fix(self.param_groups[number], name, f"{self._name}'s {name} in parameter group {number}")
        for parameter in parameters:
            owner = f"{self._name}'s state of a parameter of shape {parameter.shape}"
            if parameter in self.state:
                capture.fix(self.state, parameter, owner)
                for name in self.state_arrays:
                    capture.fix(self.state[parameter], name, f"{name} in {owner}")

    def state_of(self, parameter):
        """The state's entries for a parameter, made at its first step; arrays follow its device and dtype."""
        target = parameter.array
        entries = self.state.get(parameter)
        capture = backend.current_capture()
        if entries is None:
            if capture is not None:
                raise RuntimeError(
                    f"captured step: {self._name} has no state yet for a parameter of shape {parameter.shape}: "
                    "take a step in which it has a gradient before"
                )
            entries = self.state[parameter] = dict.fromkeys(self.state_numbers, 0)
            for name in self.state_arrays:
                entries[name] = backend.filled(target.shape, self.initial, like=target)
        for name in self.state_arrays:
            array = entries[name]
            if array.dtype != target.dtype or backend.device_of(array) != backend.device_of(target):
                entries[name] = backend.to_device(array.astype(target.dtype, copy=False), parameter.device)
        if capture is not None:
            capture.counts(entries, self.state_numbers)
        return entries

    def zero_grad(self):
        """Forget all gradients (they become None)."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def state_dict(self):
        """{"state": {index: {name: array or number}}, "param_groups": [{..., "params": [indices]}]}; host arrays.

        Parameters are numbered through all groups in order, as in PyTorch.
        """
        indices = {id(p): i for i, p in enumerate(self._parameters())}
        state = {
            indices[id(parameter)]: {
                name: value if isinstance(value, (int, float)) else np.array(backend.to_host(value), order="C")
                for name, value in entries.items()
            }
            for parameter, entries in self.state.items()
        }
        groups = [{**group, "params": [indices[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_state_dict(self, state):
        """Continue from what ``state_dict`` gave; a state that does not fit is a ValueError and changes nothing.

        Keys of "state" may be numbers or, as after JSON, their digits.
        """
        parameters = self._parameters()
        groups = self._checked_groups(state)
        if not isinstance(state["state"], dict):
            raise self._misfit(f"its 'state' is a {type(state['state']).__name__}, not a dict")
        loaded = {}
        for key, entries in state["state"].items():
            if not (isinstance(key, int) or isinstance(key, str) and key.isdecimal()):
                raise self._misfit(f"it has an entry for {key!r}, which is no parameter's number")
            index = int(key)
            if not 0 <= index < len(parameters):
                raise self._misfit(f"it has an entry for parameter {index}, the optimizer {len(parameters)} parameters")
            wanted = sorted((*self.state_arrays, *self.state_numbers))
            if not isinstance(entries, dict) or sorted(entries) != wanted:
                found = sorted(entries) if isinstance(entries, dict) else type(entries).__name__
                raise self._misfit(f"parameter {index} should have {wanted}, it has {found}")
            loaded[parameters[index]] = {
                name: self._loaded_entry(index, parameters[index], name, value) for name, value in entries.items()
            }
        for own, group in zip(self.param_groups, groups):
            own.update(group)
        for parameter in self.state.keys() - loaded.keys():
            del self.state[parameter]
        for parameter, entries in loaded.items():
            self._load_entries(parameter, entries)

    def _load_entries(self, parameter, entries):
        """Put the entries into the state, into the same memory where they fit: a captured step works on it."""
        state = self.state.setdefault(parameter, {})
        for name, value in entries.items():
            if name in self.state_arrays:
                kept, value = state.get(name), backend.to_device(value, parameter.device)
                if kept is not None and kept.dtype == value.dtype and backend.device_of(kept) == parameter.device:
                    kept[...] = value
                    continue
            state[name] = value

    def _checked_groups(self, state):
        if not isinstance(state, dict):
            raise TypeError(f"{self._name}.load_state_dict takes what state_dict() gave, got {type(state).__name__}")
        for key in ("state", "param_groups"):
            if key not in state:
                raise self._misfit(f"it lacks {key!r}")
        given = state["param_groups"]
        if not isinstance(given, list) or not all(isinstance(g, dict) and "params" in g for g in given):
            raise self._misfit("its 'param_groups' is not a list of dicts with 'params'")
        sizes = [len(group["params"]) for group in given]
        own_sizes = [len(group["params"]) for group in self.param_groups]
        if sizes != own_sizes:
            raise self._misfit(f"it has groups of {sizes} parameters, the optimizer of {own_sizes}")
        groups = []
        for group, own in zip(given, self.param_groups):
            differing = sorted(set(group) ^ set(own))
            if differing:
                raise self._misfit(f"the settings {differing} are in only one of them")
            merged = {**group, "params": own["params"]}
            self.check(merged)
            groups.append(merged)
        return groups

    def _loaded_entry(self, index, parameter, name, value):
        if name in self.state_numbers:
            if not is_real(value):
                raise self._misfit(f"{name} of parameter {index} is a {type(value).__name__}, not a number")
            return value
        if not isinstance(value, (np.ndarray, list)) or np.asarray(value).dtype.kind not in "fiu":
            raise self._misfit(f"{name} of parameter {index} is a {type(value).__name__}, not an array of numbers")
        value = np.array(value, dtype=parameter.dtype, order="C")
        if value.shape != parameter.shape:
            raise self._misfit(f"{name} of parameter {index} has shape {value.shape}, the parameter {parameter.shape}")
        return value

    def _misfit(self, reason):
        return ValueError(f"{self._name}.load_state_dict: the state does not fit this optimizer: {reason}")

    def _parameters(self):
        return [parameter for group in self.param_groups for parameter in group["params"]]

    @property
    def _name(self):
        return type(self).__name__


def gradient_of(parameter):
    """The gradient's array in row-major memory like its parameter; the update and clipping work on it in place."""
    gradient = parameter.grad
    if not isinstance(gradient, Tensor):
        raise TypeError(f"a gradient must be a Tensor, got {type(gradient).__name__}")
    if gradient.array.shape != parameter.array.shape or gradient.array.dtype != parameter.array.dtype:
        raise ValueError(
            f"the gradient is {gradient.shape} {gradient.dtype}, its parameter {parameter.shape} {parameter.dtype}"
        )
    if not gradient.array.flags.c_contiguous:
        gradient.array = backend.contiguous(gradient.array)
    return gradient.array
