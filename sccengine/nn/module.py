"""Module: a tree of layers that owns parameters and buffers, with PyTorch's names and state-dict keys.

Assigning a ``Parameter`` or a ``Module`` to an attribute registers it, in order. A buffer is an array that belongs to
the state without being trained (batch norm's running statistics); ``register_buffer`` declares it. ``state_dict`` holds
host copies (C-contiguous NumPy arrays, a requirement of safetensors), so saving never depends on a device.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping

import numpy as np

from sccengine import backend
from sccengine.autograd import Parameter, Tensor

IncompatibleKeys = namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])


class HookHandle:
    """Returned by ``register_forward_hook``; ``remove()`` takes the hook off again, also as a context manager."""

    def __init__(self, hooks, key):
        self._hooks = hooks
        self._key = key

    def remove(self):
        self._hooks.pop(self._key, None)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.remove()


class Module:
    """Base class of every layer and model: subclasses build their parts in ``__init__`` and compute in ``forward``.

    Layers do one thing and models are trees of them; ``model(x)`` calls ``forward``.
    """

    def __init__(self):
        for name in ("_parameters", "_buffers", "_modules", "_forward_hooks"):
            object.__setattr__(self, name, {})
        object.__setattr__(self, "training", True)

    def forward(self, *inputs):
        raise NotImplementedError(f"{type(self).__name__} does not define forward()")

    def __call__(self, *inputs, **settings):
        capture = backend.current_capture()
        if capture is not None:
            capture.calls(self)
        output = self.forward(*inputs, **settings)
        if self._forward_hooks:
            for hook in list(self._forward_hooks.values()):
                replacement = hook(self, inputs, output)
                if replacement is not None:
                    output = replacement
        return output

    def register_forward_hook(self, hook):
        """Call ``hook(module, inputs, output)`` after every forward; unless None, its result replaces the output."""
        handle = HookHandle(self._forward_hooks, object())
        self._forward_hooks[handle._key] = hook
        return handle

    # Registration by attribute

    def __setattr__(self, name, value):
        if isinstance(value, (Parameter, Module)):
            registry = self._registry("_parameters" if isinstance(value, Parameter) else "_modules", name)
            for other in (self.__dict__, self._parameters, self._buffers, self._modules):
                if other is not registry:
                    other.pop(name, None)
            registry[name] = value
            return
        for registry, wanted in (("_parameters", "a Parameter"), ("_modules", "a Module"), ("_buffers", "")):
            known = self.__dict__.get(registry)
            if known is not None and name in known:
                if registry == "_buffers":
                    value = _buffer(name, value)
                elif value is not None:
                    raise TypeError(
                        f"{type(self).__name__}.{name} takes {wanted} or None, got {type(value).__name__}; "
                        f"delete the attribute first to use the name for something else"
                    )
                known[name] = value
                return
        object.__setattr__(self, name, value)

    def __getattr__(self, name):
        # Only reached when the ordinary lookup fails, which is the case for everything registered.
        state = self.__dict__
        if "_parameters" not in state:
            raise AttributeError(_forgotten_init(self, f"{name!r} was used"))
        for registry in ("_parameters", "_buffers", "_modules"):
            if name in state[registry]:
                return state[registry][name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __delattr__(self, name):
        for registry in (self._parameters, self._buffers, self._modules):
            if name in registry:
                del registry[name]
                return
        object.__delattr__(self, name)

    def __dir__(self):
        return sorted({*super().__dir__(), *self._parameters, *self._buffers, *self._modules})

    def _registry(self, registry, name):
        if registry not in self.__dict__:
            raise RuntimeError(_forgotten_init(self, f"{name!r} was assigned"))
        return self.__dict__[registry]

    def _check_new_name(self, kind, name):
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(f"{kind} name must be a non-empty string without a dot, got {name!r}")
        if hasattr(self, name) and not any(name in r for r in (self._parameters, self._buffers, self._modules)):
            raise ValueError(f"{type(self).__name__} already has an attribute {name!r}; choose another {kind} name")

    def register_parameter(self, name, parameter):
        """Register a ``Parameter``, or None for a parameter this layer does without (``bias=False``)."""
        self._registry("_parameters", name)
        self._check_new_name("parameter", name)
        if parameter is None:
            self._parameters[name] = None
        elif isinstance(parameter, Parameter):
            setattr(self, name, parameter)
        else:
            raise TypeError(f"parameter {name!r} must be a Parameter or None, got {type(parameter).__name__}")

    def register_buffer(self, name, array):
        """Register an array (or None) that is saved and moved with the module but not trained."""
        registry = self._registry("_buffers", name)
        self._check_new_name("buffer", name)
        registry[name] = _buffer(name, array)

    def add_module(self, name, module):
        """Register a child module under any name; None leaves the place empty."""
        registry = self._registry("_modules", name)
        self._check_new_name("module", name)
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"child {name!r} must be a Module or None, got {type(module).__name__}")
        registry[name] = module

    # Walking the tree

    def named_children(self):
        """Yield (name, module) of the direct children, each module once."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self):
        for _, module in self.named_children():
            yield module

    def named_modules(self, prefix="", seen=None):
        """Yield (dotted name, module) of this module (name ``""``) and all below it, in order, each module once."""
        seen = set() if seen is None else seen
        if id(self) in seen:
            return
        seen.add(id(self))
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(f"{prefix}.{name}" if prefix else name, seen)

    def modules(self):
        for _, module in self.named_modules():
            yield module

    def _named_entries(self, registry, prefix):
        seen = set()
        for path, module in self.named_modules(prefix):
            for name, value in getattr(module, registry).items():
                if value is not None and id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(self, prefix=""):
        """Yield (dotted name, Parameter) in order of registration; a shared one appears once, by its first name."""
        return self._named_entries("_parameters", prefix)

    def parameters(self):
        for _, parameter in self.named_parameters():
            yield parameter

    def named_buffers(self, prefix=""):
        """Yield (dotted name, array) in order of registration, each array once."""
        return self._named_entries("_buffers", prefix)

    def buffers(self):
        for _, array in self.named_buffers():
            yield array

    # State

    def _state_entries(self, prefix=""):
        # Unlike named_parameters(), shared entries appear under each of their names: that is what a checkpoint lists.
        for name, parameter in self._parameters.items():
            if parameter is not None:
                yield prefix + name, parameter.array
        for name, array in self._buffers.items():
            if array is not None:
                yield prefix + name, array
        for name, module in self._modules.items():
            if module is not None:
                yield from module._state_entries(f"{prefix}{name}.")

    def state_dict(self):
        """Every parameter and buffer by dotted name, copied to the host as C-contiguous NumPy arrays."""
        return {name: np.array(backend.to_host(array), order="C") for name, array in self._state_entries()}

    def load_state_dict(self, state, strict=True):
        """Copy ``state`` (name -> array) into the parameters and buffers, keeping their devices and dtypes.

        All problems (missing, unexpected and mis-shaped names) are reported in one RuntimeError, and then nothing has
        been changed. ``strict=False`` accepts missing and unexpected names, never a wrong shape. Returns both lists.
        """
        if not isinstance(state, Mapping):
            name = type(self).__name__
            raise TypeError(f"{name}.load_state_dict takes a mapping of names to arrays, got {type(state).__name__}")
        own = dict(self._state_entries())
        given = {name: _host_array(name, value) for name, value in state.items()}
        missing = [name for name in own if name not in given]
        unexpected = [name for name in given if name not in own]
        unfit = []
        for name, array in own.items():
            if name not in given:
                continue
            value = given[name]
            if value.shape != array.shape:
                unfit.append(f"{name}: shape {value.shape} in the state, {array.shape} in the model")
            elif not np.can_cast(value.dtype, array.dtype, "same_kind"):
                unfit.append(f"{name}: dtype {value.dtype} in the state cannot become {array.dtype}")
        problems = [f"does not fit: {line}" for line in unfit]
        if strict:
            problems += [f"missing: {name}" for name in missing] + [f"unexpected: {name}" for name in unexpected]
        if problems:
            lines = "\n    ".join(problems)
            name = type(self).__name__
            raise RuntimeError(f"{name}.load_state_dict: nothing loaded, the state differs:\n    {lines}")
        for name, array in own.items():
            if name in given:
                value = np.ascontiguousarray(given[name], dtype=array.dtype).reshape(array.shape)
                array[...] = backend.to_device(value, backend.device_of(array))
        for parameter in self.parameters():
            parameter.changed()
        return IncompatibleKeys(missing, unexpected)

    # Modes, devices, gradients

    def train(self, mode=True):
        """Switch this module and all below it to training mode (``mode=False``: to evaluation)."""
        if not isinstance(mode, bool):
            raise TypeError(f"train(mode) takes True or False, got {type(mode).__name__}")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self):
        return self.train(False)

    def to(self, device=None, dtype=None):
        """Move parameters and buffers to ``device`` and floating ones to ``dtype``, in place; returns the module.

        Parameters keep their identity, so an optimizer built before still updates them. TypeError for a dtype other
        than float32 and float64.
        """
        dtype = None if dtype is None else _floating_dtype(type(self).__name__, dtype)
        device = None if device is None else backend.resolve_device(device)
        for parameter in self.parameters():
            parameter.array = _converted(parameter.array, device, dtype)
            parameter.changed()
            if parameter.grad is not None:
                parameter.grad.array = _converted(parameter.grad.array, device, dtype)
        for module in self.modules():
            for name, array in module._buffers.items():
                if array is not None:
                    module._buffers[name] = _converted(array, device, dtype)
        return self

    def zero_grad(self):
        """Forget the gradients of all parameters (they become None)."""
        for parameter in self.parameters():
            parameter.grad = None

    def requires_grad_(self, requires_grad=True):
        """Train (True) or freeze (False) every parameter of this module."""
        for parameter in self.parameters():
            parameter.requires_grad = bool(requires_grad)
        return self

    def apply(self, function):
        """Call ``function(module)`` on every module below and then on this one; returns the module."""
        for module in self.children():
            module.apply(function)
        function(self)
        return self

    # Printing

    def extra_repr(self):
        """The settings shown between the parentheses of ``repr``; subclasses override it."""
        return ""

    def __repr__(self):
        extra = self.extra_repr()
        lines = []
        for name, module in self._modules.items():
            lines.append(f"({name}): " + repr(module).replace("\n", "\n  "))
        if not lines:
            return f"{type(self).__name__}({extra})"
        head = [extra] if extra else []
        return f"{type(self).__name__}(\n  " + "\n  ".join(head + lines) + "\n)"


def _buffer(name, value):
    """What is kept for a buffer: its array, a host one on the default device as for tensors."""
    if isinstance(value, Tensor):
        return value.array
    if type(value) is np.ndarray:
        return backend.to_device(value, backend.default_device())
    if value is None or isinstance(value, np.ndarray) or backend.is_device_array(value):
        return value
    raise TypeError(f"buffer {name!r} must be an array, a Tensor or None, got {type(value).__name__}")


def _floating_dtype(name, dtype):
    """float32 or float64 as a dtype; TypeError for all else."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None  # "bfloat16", say, which NumPy does not know
    if found is None or found not in (np.float32, np.float64):
        raise TypeError(f"{name}.to takes dtype float32 or float64, got {found or dtype}")
    return found


def _converted(array, device, dtype):
    if dtype is not None and array.dtype.kind == "f":
        array = array.astype(dtype, copy=False)
    return array if device is None else backend.to_device(array, device)


def _host_array(name, value):
    array = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"load_state_dict: {name!r} must hold numbers, got a {type(value).__name__} of {array.dtype}")
    return array


def _forgotten_init(module, what):
    name = type(module).__name__
    return f"{name}: {what} before Module.__init__ ran; call super().__init__() first in {name}.__init__"
