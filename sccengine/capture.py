"""A whole training step as one graph of launches: the same numbers to the bit, without the host's cost of each.

    def step(images, labels):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    captured = scc.capture_step(step, images, labels)
    for images, labels in batches:
        loss = captured(images, labels)      # a static tensor: the next call overwrites it
        scheduler.step()                     # the host's part of a step stays outside

First call: an ordinary step, which compiles kernels and makes the optimizer's state. Second call: ``step`` runs once
more with its launches noted instead of carried out, in memory that from then on belongs to the graph; then they are
replayed. Every further call copies the inputs into place, asks for the host's numbers and replays; ``step`` itself
is not called again. So k calls are k eager steps, whose launches all go to CuPy's current stream.

New at every call: the inputs' values, and what reaches kernels by ``backend.host_value``: learning rates and other
numbers of optimizers, dropout's keys. Built in: everything else. Shapes, dtypes and devices of inputs, the arrays of
parameters and buffers, the parts, settings and modes of modules, the groups, switches and state of optimizers, matmul
precision, ``no_grad`` and ``nn.unfused`` are compared before each replay, and the first that differs is named in a
RuntimeError. What nobody can compare are the step function's own numbers and its side effects on the host (counting,
printing, choosing a branch): those of the call that was captured stay. Gradients are left in static tensors, as
``.grad``; a step begins with ``zero_grad()``.

Refused while capturing, by name: reading a tensor on the host (``item()``, ``numpy()``), making tensors of host arrays,
adding to gradients of an earlier step, and on the CPU and in the simulator NumPy's operators on the step's arrays.

On a GPU a graph is a CUDA graph. On the CPU it is the list of the launches, whose arrays share memory as they did in an
eager step; checks, the training graph and allocation are all that a replay leaves out, which for small networks is more
than half of a step. In the simulator it is such a list, too.
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np

from sccengine import backend
from sccengine.autograd import Tensor, as_array, is_grad_enabled
from sccengine.capture_graphs import graph_on
from sccengine.capture_guard import LENGTH, Guard
from sccengine.precision import get_matmul_precision

_SLOT = 16  # bytes; host values begin at multiples of it
_BLOCK = 1 << 16  # bytes of host values that are uploaded together


def capture_step(step_fn, *example_inputs, device=None):
    """A CapturedStep of ``step_fn(*inputs)``, which does forward, backward and update, or any part of them.

    example_inputs   arrays or Tensors whose shapes and dtypes all inputs will have; nothing is computed with them
    device           where the step runs; None: where the inputs are, for host arrays the default device

    A replay looks at no label: one out of range makes the loss NaN, where the eager step names it.

    ``step_fn`` gets Tensors and returns a Tensor, an array of the device, None, or tuples, lists and dicts of them.
    Raises TypeError for inputs that are no arrays, and ValueError for one that requires a gradient, which would go to
    the step's copy of it.
    """
    if not callable(step_fn):
        raise TypeError(f"capture_step: step_fn must be a function, got {type(step_fn).__name__}")
    for position, value in enumerate(example_inputs):
        _refuse_gradient("capture_step", position, value)
    arrays = [as_array(value) for value in example_inputs]
    if device is None:
        device = next((backend.device_of(a) for a in arrays if type(a) is not np.ndarray), backend.default_device())
    device = backend.resolve_device(device)
    return CapturedStep(step_fn, [Tensor(array.copy(), device=device) for array in arrays], device)


class CapturedStep:
    """What ``capture_step`` gives: call it with inputs like the examples; see the module's text.

    ``device``; ``warm``, whether a first step was done; ``captured``, whether the next call replays.
    """

    def __init__(self, step_fn, inputs, device):
        self.device = device
        self.captured = False
        self._step_fn = step_fn
        self._inputs = inputs
        self.warm = False

    def __call__(self, *inputs):
        if backend.current_capture() is not None:
            raise RuntimeError("captured step: it cannot be called inside another step that is being captured")
        arrays = self._checked(inputs)
        if self.captured:
            self._guard.check()
        for static, array in zip(self._inputs, arrays):
            backend.overwrite(static.array, array)
            static.changed()
        if not self.warm:
            outputs = _static(self._step_fn(*self._inputs), self.device)
            self.warm = True
            return outputs
        if self.captured:
            self._capture.host_values.refresh()
        else:
            self._record()
        self._graph.replay()
        for tensor, gradient in self._gradients:
            tensor.grad = gradient
        for tensor in self._changed:
            tensor.changed()
        return self._outputs

    def _checked(self, inputs):
        if len(inputs) != len(self._inputs):
            raise TypeError(f"captured step: it takes {len(self._inputs)} inputs, got {len(inputs)}")
        arrays = []
        for position, (value, static) in enumerate(zip(inputs, self._inputs)):
            _refuse_gradient("captured step", position, value)
            array = as_array(value)
            on_host = type(array) is np.ndarray and not isinstance(value, Tensor)
            for name, got, wanted in (
                ("shape", tuple(array.shape), static.shape),
                ("dtype", array.dtype, static.dtype),
                ("device", self.device if on_host else backend.device_of(array), self.device),
            ):
                if got != wanted:
                    raise RuntimeError(
                        f"captured step: input {position} has {name} {got}, the step was captured for {wanted}: "
                        "capture another step for it, or call the step function itself"
                    )
            arrays.append(array)
        return arrays

    def _record(self):
        graph = graph_on(self.device)
        capture = Capture(self.device, self._inputs, graph)
        before = backend.random_state()
        backend.set_current_capture(capture)
        try:
            with _guarded(self._inputs):
                outputs = graph.record(lambda: _static(self._step_fn(*self._inputs), self.device))
        except BaseException:
            for tensor, gradient in capture.gradients.values():
                tensor.grad = gradient
            for entries, numbers in reversed(capture.numbers):
                entries.update(numbers)
            backend.set_random_state(before)
            raise
        finally:
            backend.set_current_capture(None)
        modules = list(capture.modules.values())
        self._guard = Guard(capture.tensors.values(), modules, capture.fixed, capture.asked)
        self._gradients = [(tensor, tensor.grad) for tensor in capture.tensors.values() if tensor.requires_grad]
        for tensor in [*_tensors_in(outputs), *(gradient for _, gradient in self._gradients if gradient is not None)]:
            tensor.array = backend.unguarded(tensor.array)
        # All that a replay overwrites: what is still to be differentiated through it must not use the new values.
        self._changed = [*capture.changed.values(), *_tensors_in(outputs)]
        self._changed += [gradient for _, gradient in self._gradients if gradient is not None]
        self._capture, self._graph, self._outputs = capture, graph, outputs
        capture.host_values.upload()
        self.captured = True


def _refuse_gradient(caller, position, value):
    if isinstance(value, Tensor) and value.requires_grad:
        raise ValueError(
            f"{caller}: input {position} requires a gradient, but the step works on a copy of it: pass it detached, "
            "and let the step read what is to be differentiated from outside, as it reads parameters"
        )


class Capture:
    """What the engine's parts report while a step is being captured, through ``backend.current_capture()``."""

    def __init__(self, device, inputs, graph):
        self.device = device
        self.kernels = graph.kernels
        self.host_values = _HostValues(graph.staging)
        self.tensors = {}
        self.modules = {}
        self.fixed = []
        self.asked = []
        self.changed = {}
        self.gradients = {}
        self.numbers = []
        self._kept = []
        self._inputs = {id(tensor) for tensor in inputs}
        self.asks(get_matmul_precision, "the precision set by set_matmul_precision")
        self.asks(is_grad_enabled, "whether operators are recorded (no_grad)")

    def host_value(self, fn, dtype):
        """See ``backend.host_value``."""
        return self.host_values.add(fn, dtype)

    def keep(self, array):
        """An array made in the simulator: launches know some by their addresses only. A GPU's belong to the pool."""
        self._kept.append(array)

    def reads(self, tensors):
        """The inputs of an operator: tensors, or None."""
        for tensor in tensors:
            if tensor is not None and tensor.is_leaf and id(tensor) not in self._inputs:
                self.tensors[id(tensor)] = tensor

    def calls(self, module):
        """A module whose forward runs."""
        self.modules[id(module)] = module

    def fix(self, table, key, name):
        """``table[key]`` is built into the step; ``name`` says in an error what it is."""
        self.fixed.append((table, key, table[key], name))

    def fix_length(self, table, name):
        """The number of entries of a list or dict is built into the step."""
        self.fixed.append((table, LENGTH, len(table), name))

    def asks(self, question, name):
        """The answer of a function without arguments, a plain value, is built into the step."""
        self.asked.append((question, question(), name))

    def counts(self, entries, names):
        """The step counts up numbers in the dict `entries`; they are put back if it cannot be captured."""
        self.numbers.append((entries, {name: entries[name] for name in names}))

    def changes(self, tensor):
        """A tensor whose values the step overwrites."""
        self.changed[id(tensor)] = tensor

    def accumulates(self, leaf):
        """A leaf whose gradient is about to be written or added to."""
        if id(leaf) in self.gradients:
            return
        self.gradients[id(leaf)] = leaf, leaf.grad
        if leaf.grad is not None:
            raise RuntimeError(
                f"captured step: it adds to a gradient of shape {leaf.shape} from before the step, of which a replay "
                "would know nothing: call zero_grad() at the beginning of the step"
            )


class _HostValues:
    """The numbers that the host gives to a captured step, in blocks that are uploaded as one.

    ``staging(bytes)`` gives a device array whose memory the step's own arrays never share: they are written before a
    replay, when a block amid the step's memory might still be overwritten by an earlier launch of that replay.
    """

    def __init__(self, staging):
        self._staging = staging
        self._values = []  # (function, its part of a host block)
        self._blocks = []  # [host bytes, the same on the device, bytes taken]

    def add(self, fn, dtype):
        value = np.array(fn(), dtype).reshape(-1)
        if not self._blocks or self._blocks[-1][2] + value.nbytes > len(self._blocks[-1][0]):
            size = max(_BLOCK, value.nbytes)
            self._blocks.append([np.zeros(size, np.uint8), self._staging(size), 0])
        block = self._blocks[-1]
        here = slice(block[2], block[2] + value.nbytes)
        block[2] += -(-value.nbytes // _SLOT) * _SLOT
        self._values.append((fn, block[0][here].view(dtype)))
        self._values[-1][1][...] = value
        return backend.guarded(block[1][here].view(dtype))

    def refresh(self):
        for fn, part in self._values:
            part[...] = np.array(fn(), part.dtype).reshape(part.shape)
        self.upload()

    def upload(self):
        for host, array, _ in self._blocks:
            backend.overwrite(array, host)


@contextmanager
def _guarded(tensors):
    """Within it, NumPy keeps off the inputs of a step on the CPU."""
    arrays = [tensor.array for tensor in tensors]
    for tensor in tensors:
        tensor.array = backend.guarded(tensor.array)
    try:
        yield
    finally:
        for tensor, array in zip(tensors, arrays):
            tensor.array = array


def _static(value, device):
    """The outputs of a step, cut from the training graph."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, (tuple, list)):
        return type(value)(_static(item, device) for item in value)
    if isinstance(value, dict):
        return {key: _static(item, device) for key, item in value.items()}
    if value is None or _is_renewed(value, device):
        return backend.unguarded(value)
    raise TypeError(
        f"captured step: it returned a {type(value).__name__}, which no replay would renew: return Tensors, or arrays "
        "on the device"
    )


def _is_renewed(value, device):
    """Whether a step on the device made this array; on the CPU the guarded ones, and all in the first, eager call."""
    if type(value) is np.ndarray:
        return device == "cpu" and backend.current_capture() is None
    return backend.is_device_array(value) or isinstance(value, backend.GuardedArray)


def _tensors_in(outputs):
    """The Tensors among the outputs of a step."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    return [tensor for part in outputs for tensor in _tensors_in(part)] if isinstance(outputs, (tuple, list)) else []
