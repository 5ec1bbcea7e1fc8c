"""The training graph: a tape of Function nodes, recorded as operators run and walked once in reverse.

    y = F.relu(F.scc(x, weight, groups=2, overlap=0.5))     # each call appends one node to the tape
    F.cross_entropy(y, labels).backward()                   # gradients of every leaf with requires_grad

A node knows its inputs, keeps only what its backward needs, and is freed by the one backward pass it serves. What a
node kept must not change before that pass. Changes through the engine (optimizers, ``.data = ...``) are counted. In
host memory, graph results are read-only through ``.data``, and leaves handed out as raw arrays are compared by a
checksum.
"""

from __future__ import annotations

import heapq
import importlib
import itertools

import numpy as np

from sccengine import backend
from sccengine.numeric import is_real
from sccengine.thread_switch import ThreadSwitch

_order = itertools.count()
# NumPy's functions that make no array of a Tensor, which could then be computed with outside the graph.
_LOOK_ON = {np.ndim, np.shape, np.size, np.allclose, np.array_equal, np.save, np.savez, np.savez_compressed}
# The types of arrays, or of none, that are all in the host's memory and under nobody's guard.
_PLAIN = frozenset({np.ndarray, type(None)})


class no_grad(ThreadSwitch):
    """Context manager and decorator within which nothing is recorded."""


def is_grad_enabled():
    """Whether operators are being recorded in this thread."""
    return not no_grad.is_on()


class Tensor:
    """An array that can take part in the training graph.

    ``array`` is anything NumPy or CuPy reads; float32 and float64 arrays keep their dtype, Python numbers become
    float32, integers (labels) stay integers. An array of two or more axes is read as (N, C, ...) and lies batch-last
    in memory: one in another order is copied once, here; one already in order is shared. ``device`` is a device
    name; None leaves device arrays where they are and puts host arrays on the default device.

    Raises TypeError for other dtypes, and RuntimeError where the device cannot be used.
    """

    __slots__ = ("array", "requires_grad", "grad", "creator", "version", "_exposed", "_seen", "_source", "__weakref__")

    def __init__(self, array, requires_grad=False, device=None):
        given = as_array(array)
        if not isinstance(array, Tensor):
            backend.refuse_constant(given)
        self._adopt(self._place(given, device, backend.rows), requires_grad)
        self._exposed = backend.owner(self.array) is backend.owner(given)

    @staticmethod
    def _place(array, device, arrange):
        if device is not None:
            array = backend.to_device(array, backend.resolve_device(device))
        elif type(array) is np.ndarray:
            array = backend.to_device(array, backend.default_device())
        if arrange is backend.rows and array.ndim >= 2:
            return backend.from_rows(backend.rows(array))
        return backend.contiguous(array)

    def _adopt(self, array, requires_grad, creator=None):
        if requires_grad and array.dtype.kind != "f":
            raise TypeError(f"only floating-point tensors can require a gradient, this one is {array.dtype}")
        self.array = array  # for operators: the storage itself
        self.requires_grad = bool(requires_grad)
        self.grad = None
        self.creator = creator
        self.version = 0
        self._exposed = False  # whether anybody else may hold the storage and write to it
        self._seen = None  # its fingerprint when that began, of a leaf that was without at first
        self._source = None  # the leaf whose storage it is a view of
        return self

    @classmethod
    def _wrap(cls, array, creator=None):
        return Tensor.__new__(Tensor)._adopt(array, creator is not None, creator)

    @property
    def data(self):
        """The values as a NumPy or CuPy array of shape (N, C, ...); read-only for a graph result on the host."""
        if self.creator is not None:
            view = self.array.view()
            if isinstance(view, np.ndarray):
                view.flags.writeable = False
            return view
        self._expose()
        return backend.guarded(self.array)

    @data.setter
    def data(self, value):
        if self.creator is not None:
            raise RuntimeError("the result of an operator cannot be overwritten: detach() it first")
        if value is not self.array:
            value = as_array(value)
            if value.shape != self.shape or value.dtype != self.dtype:
                raise ValueError(
                    f"new data must keep shape {self.shape} and dtype {self.dtype}, got {value.shape} and {value.dtype}"
                )
            arrange = backend.contiguous if isinstance(self, Parameter) else backend.rows
            self.array = self._place(value, self.device, arrange)
            self._exposed, self._seen = backend.owner(self.array) is backend.owner(value), None
        self.changed()

    def _expose(self):
        if self._source is not None:
            self._source._expose()
        if not self._exposed:
            self._exposed = True
            self._seen = _fingerprint(self)

    def changed(self):
        """Count a change of the values in place; whoever writes into ``array`` calls this."""
        self.version += 1
        capture = backend.current_capture()
        if capture is not None:
            capture.changes(self)

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: self.array.dtype)
    ndim = property(lambda self: self.array.ndim)
    size = property(lambda self: self.array.size)
    device = property(lambda self: backend.device_of(self.array))
    is_leaf = property(lambda self: self.creator is None)

    def backward(self, gradient=None):
        """Add the gradients of this tensor, times ``gradient``, to ``.grad`` of every leaf that requires one.

        ``gradient`` has this tensor's shape; None stands for 1 and needs a tensor of one element. The graph is freed.

        Raises RuntimeError where nothing was recorded, where the graph was freed by an earlier backward, or where a
        value that it needs was changed in place; ValueError for a gradient of the wrong shape.
        """
        if not self.requires_grad:
            raise RuntimeError("backward: this tensor does not depend on anything that requires a gradient")
        _walk(self, _first_gradient(self, gradient))

    def detach(self):
        """A tensor that shares the values and stands outside the graph.

        Of an operator's result: who writes to its memory changes what backward computes with, and nothing notices.
        """
        if self.creator is None:
            self._expose()
        result = Tensor._wrap(self.array)
        result._exposed = self._exposed
        return result

    def numpy(self):
        """The values as a NumPy array of shape (N, C, ...): a view on the host, a copy from a GPU."""
        return backend.to_host(self.data, "numpy()")

    def __add__(self, other):
        """F.add of two tensors of one shape: of two losses, say."""
        if not isinstance(other, Tensor):
            raise TypeError(f"+ adds up two Tensors of one shape, got a Tensor and {type(other).__name__}")
        return _operators().add(self, other)

    def __radd__(self, other):
        # What sum([loss, loss]) begins with.
        return self if type(other) is int and other == 0 else self.__add__(other)

    def __mul__(self, other):
        """F.scale by a number."""
        if not is_real(other):
            raise TypeError(f"* multiplies a Tensor by a number, got {type(other).__name__}")
        return _operators().scale(self, other)

    __rmul__ = __mul__

    def __array_ufunc__(self, ufunc, method, *operands, **settings):
        raise _out_of_the_graph(ufunc)

    def __array_function__(self, function, types, operands, settings):
        if function not in _LOOK_ON:
            raise _out_of_the_graph(function)
        settings = {name: _looked_at(value) for name, value in settings.items()}
        return function(*map(_looked_at, operands), **settings)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.numpy(), dtype=dtype, copy=True if copy else None)

    def __dlpack__(self, **settings):
        """The memory itself for another program (interop/dlpack.py); BufferError for the result of an operator."""
        self._check_lendable()
        return self.data.__dlpack__(**settings)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    @property
    def __cuda_array_interface__(self):
        if isinstance(self.array, np.ndarray):
            raise AttributeError(f"a tensor on {self.device!r} has no __cuda_array_interface__")
        self._check_lendable()
        return self.data.__cuda_array_interface__

    def _check_lendable(self):
        if self.creator is not None:
            raise BufferError(
                "the result of an operator is read-only, and who shares its memory may write: pass tensor.detach()"
            )

    def item(self):
        """The one value of a one-element tensor as a Python number."""
        if self.size != 1:
            raise ValueError(f"item() needs a tensor of one element, this one has shape {self.shape}")
        return backend.to_host(self.array, "item()").reshape(()).item()

    def to(self, device):
        """This tensor on another device; itself where it is there. Gradients flow back through the copy."""
        device = backend.resolve_device(device)
        return self if device == self.device else _Transfer(device)(self)

    def __float__(self):
        return float(self.item())

    def __bool__(self):
        return bool(self.item())

    def __len__(self):
        if not self.ndim:
            raise TypeError("a tensor of shape () has no length")
        return self.shape[0]

    def __repr__(self):
        kind = type(self).__name__
        values = np.array2string(backend.to_host(self.array, "repr()"), precision=4, threshold=20, prefix=kind + "(")
        gradient = ", requires_grad=True" if self.requires_grad else ""
        return f"{kind}({values}, shape={self.shape}, dtype={self.dtype}, device={self.device!r}{gradient})"


class Parameter(Tensor):
    """A leaf that is trained: an own, row-major copy of ``array`` with ``requires_grad`` set."""

    __slots__ = ()

    def __init__(self, array, requires_grad=True, device=None):
        array = as_array(array)
        self._adopt(self._place(array.copy(order="C"), device, backend.contiguous), requires_grad)


class Function:
    """One recorded operation. A subclass holds the settings and defines:

    ``forward(*arrays) -> array``   inputs as (N, C, ...) arrays of any strides, None for an absent one; allocates and
                                    returns the result; ``self.save(...)`` keeps what backward needs
    ``backward(dy) -> tuple``       one gradient an input, None where ``self.needs_gradient[i]`` is False

    Calling the instance, once, runs forward and records the node. ``is_view``: whether the result lies in the first
    input's memory, as far as that is in order.
    """

    is_view = False
    needs_gradient = ()
    saved = ()
    inputs = None
    released = False

    def __init_subclass__(cls):
        # What messages and pictures call it.
        cls.name = cls.__name__.removesuffix("Function")

    def save(self, *arrays):
        """Keep arrays (or None) for backward: they come back as ``self.saved``."""
        self.saved = arrays

    def __call__(self, *inputs):
        if self.inputs is not None:
            raise RuntimeError(f"{type(self).__name__} was already called: make a new one for each call")
        if not inputs or inputs[0] is None:
            raise TypeError(f"{self.name} needs an input, got None")
        tensors, arrays, needs = [], [], []
        recording = is_grad_enabled()
        for value in inputs:
            tensor = None if value is None else as_tensor(value)
            tensors.append(tensor)
            arrays.append(None if tensor is None else tensor.array)
            needs.append(recording and tensor is not None and tensor.requires_grad)
        self.inputs = tuple(tensors)
        self.needs_gradient = tuple(needs)
        if not _PLAIN.issuperset(map(type, arrays)):
            self._check_devices(arrays)
        capture = backend.current_capture()
        if capture is not None:
            capture.reads(self.inputs)
            arrays = map(backend.guarded, arrays)
        result = self.forward(*arrays)
        if type(result) is not np.ndarray:
            result = _given(self, "forward", result)
        if True in needs:
            self.order = next(_order)
            self._watch_saved()
            result = Tensor._wrap(result, creator=self)
        else:
            self.release()
            result = Tensor._wrap(result)
        if self.is_view:
            x = tensors[0]
            result._source = x if x.creator is None and x._source is None else x._source
        return result

    def _check_devices(self, arrays):
        devices = {backend.device_of(array) for array in arrays if array is not None}
        if len(devices) > 1:
            raise RuntimeError(
                f"{type(self).__name__} got inputs on different devices: {', '.join(sorted(devices))}; "
                "move them with .to()"
            )

    def _watch_saved(self):
        """Note what leaves were like whose memory is kept; the result of an operator cannot be changed."""
        leaves = []
        for at, tensor in enumerate(self.inputs):
            if tensor is not None:
                leaves += [(at, t) for t in (tensor, tensor._source) if t is not None and t.creator is None]
        kept = {id(backend.owner(array)) for array in self.saved if array is not None} if leaves else ()
        self._watched = [(at, t, t.version, _fingerprint(t)) for at, t in leaves if id(backend.owner(t.array)) in kept]

    def check(self):
        """Raise RuntimeError unless this node can still run backward on the values that it saw."""
        if self.released:
            raise RuntimeError(
                f"backward went through this {self.name} before and freed what it kept: "
                "run forward again for a second backward, or add up losses first: (loss1 + loss2).backward()"
            )
        for position, tensor, version, fingerprint in self._watched:
            before = tensor._seen if fingerprint is None else fingerprint
            if tensor.version != version or _fingerprint(tensor) != before:
                raise RuntimeError(
                    f"input {position} of {self.name}, shape {tensor.shape}, was changed in place after {self.name} "
                    "kept it for backward: change it after backward(), or work on a copy"
                )

    def release(self):
        """Free what the node kept; the tape ends here from now on."""
        self.saved = ()
        self.inputs = ()
        self.released = True


class _Transfer(Function):
    """A copy between devices."""

    def __init__(self, device):
        self.device = device

    def forward(self, x):
        self.source = backend.device_of(x)
        return backend.to_device(x, self.device)

    def backward(self, dy):
        return (backend.to_device(dy, self.source),)


def recorded(tensor):
    """The Functions that led to ``tensor``, in the order in which they ran; none of a leaf.

    ``node.inputs`` are Tensors, or None for an absent one; one with a ``creator`` is that node's result.
    """
    if tensor.creator is None:
        return ()
    return tuple(sorted(_nodes(tensor.creator), key=lambda node: node.order))


def _out_of_the_graph(function):
    return TypeError(
        f"numpy.{function.__name__} would take a Tensor out of the graph: use sccengine.functional, or the values "
        "alone by .numpy()"
    )


def _looked_at(value):
    return value.numpy() if isinstance(value, Tensor) else value


def _operators():
    """sccengine.functional, which stands above this file: looked up when an expression asks for it."""
    return importlib.import_module("sccengine.functional")


def as_tensor(value):
    """The value itself where it is a Tensor, else a Tensor of it."""
    return value if isinstance(value, Tensor) else Tensor(value)


def as_array(value):
    """The array of a Tensor, or what becomes one: an array as it is, Python numbers as float32 or integers."""
    if isinstance(value, Tensor):
        return value.array
    if backend.is_device_array(value) or type(value) is np.ndarray or isinstance(value, backend.GuardedArray):
        array = value
    elif isinstance(value, np.ma.MaskedArray):
        raise TypeError("a tensor has no mask: fill the masked array first, with .filled(value)")
    else:
        array = np.asarray(value)
        if array.dtype == np.float64 and not hasattr(value, "dtype"):
            array = array.astype(np.float32)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype == object:
        raise TypeError(f"a tensor holds float32, float64 or integers, got {type(value).__name__}")
    if array.dtype not in (np.float32, np.float64) and array.dtype.kind not in "iu":
        advice = ": convert it, x.astype(np.float32)" if array.dtype.kind in "fb" else ""
        raise TypeError(f"a tensor holds float32, float64 or integers, got {array.dtype}{advice}")
    return array


def _fingerprint(tensor):
    """A sum over the bits of a leaf that somebody else may write to; None where nobody can, or it is on a device."""
    if not tensor._exposed or tensor.creator is not None or type(tensor.array) is not np.ndarray:
        return None
    memory = tensor.array if isinstance(tensor, Parameter) else backend.rows(tensor.array)
    flat = memory.reshape(-1)
    # By the package, not by kernels_for: a captured step has this done while it is captured, not at its replays.
    return backend.kernel_package("cpu").bit_sum.bit_sum(flat) if flat.itemsize % 4 == 0 else flat.tobytes()


def _first_gradient(tensor, gradient):
    if gradient is None:
        if tensor.size != 1:
            raise RuntimeError(f"backward of a tensor of shape {tensor.shape} needs a gradient of that shape")
        return backend.filled(tensor.shape, 1, like=tensor.array)
    gradient = as_tensor(gradient).array
    if gradient.shape != tensor.shape:
        raise ValueError(f"the gradient has shape {gradient.shape}, the tensor {tensor.shape}")
    if gradient.dtype != tensor.dtype:
        raise TypeError(f"the gradient is {gradient.dtype}, the tensor {tensor.dtype}")
    return backend.to_device(gradient, tensor.device)


def _flat(array, in_order):
    """All elements in memory order: row-major where ``in_order``, else batch-last."""
    return (array if in_order else backend.rows(array)).reshape(-1)


def _empty_like(array, in_order):
    if in_order:
        return backend.empty(array.shape, like=array)
    return backend.from_rows(backend.empty((*array.shape[1:], array.shape[0]), like=array))


def _copied(array):
    """A copy in the same memory order."""
    in_order = array.flags.c_contiguous
    copy = _empty_like(array, in_order)
    backend.kernels_for(array).copy.copy(_flat(array, in_order), _flat(copy, in_order))
    return copy


def _sum(a, b):
    """a + b in their memory order, by the engine's kernel: a captured step replays nothing else."""
    in_order = a.flags.c_contiguous and b.flags.c_contiguous
    total = _empty_like(a, in_order)
    backend.kernels_for(a).add.forward(_flat(a, in_order), _flat(b, in_order), _flat(total, in_order))
    return total


def _walk(root, gradient):
    if root.creator is None:
        _accumulate(root, _copied(gradient))
        return
    for node in _nodes(root.creator):
        node.check()
    pending = {root.creator: gradient}
    queue = [(-root.creator.order, root.creator)]
    while queue:
        _, node = heapq.heappop(queue)
        dy = pending.pop(node)
        for tensor, share in zip(node.inputs, _gradients(node, dy)):
            if share is None:
                continue
            if tensor.creator is None:
                _accumulate(tensor, share)
            elif tensor.creator in pending:
                pending[tensor.creator] = _sum(pending[tensor.creator], share)
            else:
                pending[tensor.creator] = share
                heapq.heappush(queue, (-tensor.creator.order, tensor.creator))
        node.release()


def _nodes(first):
    """Every node that a backward from ``first`` reaches, each once."""
    seen = {first}
    stack = [first]
    while stack:
        node = stack.pop()
        yield node
        for tensor in node.inputs:
            if tensor is not None and tensor.creator is not None and tensor.creator not in seen:
                seen.add(tensor.creator)
                stack.append(tensor.creator)


def _gradients(node, dy):
    """The node's gradients, checked, and none of them sharing memory with dy or another where a leaf will own it."""
    gradients = node.backward(dy)
    if type(gradients) is not tuple or len(gradients) != len(node.inputs):
        gradients = _one_an_input(node, gradients)
    taken = {id(backend.owner(dy))}
    checked = []
    for tensor, needed, gradient in zip(node.inputs, node.needs_gradient, gradients):
        if not needed:
            checked.append(None)
            continue
        array = tensor.array
        if type(gradient) is not np.ndarray and gradient is not None:
            gradient = _given(node, "backward", gradient)
        if gradient is None or gradient.shape != array.shape or gradient.dtype != array.dtype:
            found = "None" if gradient is None else f"{gradient.shape} {gradient.dtype}"
            raise RuntimeError(
                f"{type(node).__name__}.backward gave {found} for an input of {array.shape} {array.dtype}"
            )
        if tensor.creator is None:
            owner = id(backend.owner(gradient))
            if owner in taken:
                gradient = _copied(gradient)
            taken.add(owner)
        checked.append(gradient)
    return checked


def _one_an_input(node, gradients):
    """The gradients that a node gave as a list; TypeError or ValueError for what is no such sequence."""
    count = len(node.inputs)
    wanted = f"{type(node).__name__}.backward must return a tuple of {count}, one gradient or None an input"
    if not isinstance(gradients, (tuple, list)):
        raise TypeError(f"{wanted}, got {type(gradients).__name__}")
    if len(gradients) != count:
        raise ValueError(f"{wanted}, got {len(gradients)}")
    return gradients


def _given(node, method, value):
    """The array that a node gave, of whatever kind; NumPy's numbers, which its sums are, made one. Or TypeError."""
    if isinstance(value, np.ndarray) or backend.is_device_array(value):
        return value
    if isinstance(value, np.generic):
        return np.asarray(value)
    what = "an array" if method == "forward" else "arrays"
    raise TypeError(f"{type(node).__name__}.{method} must return {what}, got {type(value).__name__}")


def _accumulate(leaf, gradient):
    capture = backend.current_capture()
    if capture is not None:
        capture.accumulates(leaf)
    if leaf.grad is None:
        leaf.grad = Tensor._wrap(gradient)
    else:
        leaf.grad = Tensor._wrap(_sum(leaf.grad.array, gradient))
