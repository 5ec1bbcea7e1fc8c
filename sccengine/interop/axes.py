"""Which channel axes of a model share one numbering, and which parameters and buffers follow it.

Every tensor of a trace has one channel axis. Depthwise convolutions, batch norms, activations, poolings and additions
keep the numbering of their input; dense convolutions and linear layers read one axis and write another. An axis may be
renumbered, at no cost and without changing what the model computes, unless something pins it: the image, the output,
layers whose channels have fixed places (grouped, sliding, shuffle), and every operator that is not known here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from sccengine import nn
from sccengine.functional.add import AddFunction
from sccengine.functional.avg_pool2d import AvgPool2dFunction
from sccengine.functional.batch_norm import BatchNormFunction
from sccengine.functional.conv2d import Conv2dFunction
from sccengine.functional.depthwise import DepthwiseFunction
from sccengine.functional.dropout import DropoutFunction
from sccengine.functional.flatten import FlattenFunction
from sccengine.functional.global_avg_pool2d import GlobalAvgPool2dFunction
from sccengine.functional.max_pool2d import MaxPool2dFunction
from sccengine.functional.relu import ReLUFunction
from sccengine.functional.scale import ScaleFunction
from sccengine.functional.scc import ContractionFunction


@dataclass(frozen=True)
class Pointwise:
    """A dense 1x1 convolution: its module, the axes that it reads and writes, and whether a depthwise one feeds it."""

    module: nn.Conv2d
    reads: int
    writes: int
    after_depthwise: bool


class Axes:
    """The axes of a model by number; ``pointwise`` are its dense 1x1 convolutions by name, in order."""

    def __init__(self):
        self.pointwise = {}
        self._parent = []
        self._pinned = set()
        self._size = {}
        self._followers = []  # (axis, array, position of the channel axis in it)

    def new(self, size):
        """A fresh axis."""
        self._parent.append(len(self._parent))
        self._size[self._parent[-1]] = size
        return self._parent[-1]

    def find(self, axis):
        """The number that stands for all that were joined with `axis`."""
        while self._parent[axis] != axis:
            axis = self._parent[axis]
        return axis

    def join(self, one, other):
        """Both have the same numbering from now on."""
        self._parent[self.find(one)] = self.find(other)

    def pin(self, axis):
        """The axis must stay as it is."""
        self._pinned.add(axis)

    def follow(self, axis, array, position=0):
        """`array` is numbered by `axis` at `position`; None is nobody."""
        if array is not None:
            self._followers.append((axis, array, position))

    def sizes(self):
        """Number of channels of every axis that may be renumbered."""
        pinned = {self.find(axis) for axis in self._pinned}
        return {axis: size for axis, size in self._size.items() if self.find(axis) == axis and axis not in pinned}

    def reorder(self, orders):
        """Renumber: place p of an axis gets what was at orders[axis][p]; arrays are changed in place."""
        for axis, array, position in self._followers:
            order = orders.get(self.find(axis))
            if order is not None:
                array[...] = np.take(array, order, axis=position)


def channel_axes(recorded, model):
    """The Axes of a Trace of `model`, which lives in host memory."""
    walk = _Walk(recorded, model)
    for node in recorded.nodes:
        x = walk.channels(node.inputs[0])
        rule = _pin if x is None else _RULES.get(type(node), _pin)
        walk.known[node] = rule(walk, node, x)
    axes = walk.axes
    axes.pin(walk.channels(recorded.output).axis)
    axes.pointwise = {
        name: replace(entry, reads=axes.find(entry.reads), writes=axes.find(entry.writes))
        for name, entry in axes.pointwise.items()
    }
    return axes


@dataclass(frozen=True)
class _Channels:
    """The channels of a tensor: their axis, and whether they come from a depthwise convolution, with nothing but what
    keeps its numbering between."""

    axis: int
    filtered: bool


class _Walk:
    """A trace gone through in order: the axes found, and the _Channels of the model's input and of each node so far."""

    def __init__(self, recorded, model):
        self.axes = Axes()
        self.known = {recorded.input: _Channels(self.axes.new(recorded.input.shape[1]), False)}
        self.axes.pin(self.known[recorded.input].axis)
        self.convolutions = {id(m.weight): (name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
        self._uses = Counter(id(tensor) for node in recorded.nodes for tensor in node.inputs if tensor is not None)

    def channels(self, tensor):
        """The _Channels of a node's input; None for a leaf, or where there is no input."""
        return None if tensor is None else self.known.get(tensor if tensor.creator is None else tensor.creator)

    def is_read_once(self, tensor):
        """Whether it is a leaf that a single node reads."""
        return tensor.creator is None and self._uses[id(tensor)] == 1

    def follow(self, axis, *tensors, position=0):
        """Parameters are numbered by `axis`; those that are shared or computed pin it instead. None is nobody."""
        for tensor in tensors:
            if tensor is None:
                continue
            if self.is_read_once(tensor):
                self.axes.follow(axis, tensor.array, position)
            else:
                self.axes.pin(axis)

    def join(self, x, other):
        """The _Channels of a sum."""
        self.axes.join(x.axis, other.axis)
        return _Channels(x.axis, x.filtered or other.filtered)


# What a Function makes of numberings: (walk, node, _Channels of its first input) -> _Channels of its result


def _pin(walk, node, x):
    for tensor in node.inputs:
        if (channels := walk.channels(tensor)) is not None:
            walk.axes.pin(channels.axis)
    axis = walk.axes.new(0)
    walk.axes.pin(axis)
    return _Channels(axis, False)


def _keep(walk, node, x):
    return x


def _flatten(walk, node, x):
    return x if node.rows_shape[1:-1] in ((), (1, 1)) else _pin(walk, node, x)


def _add(walk, node, x):
    other = walk.channels(node.inputs[1])
    return _pin(walk, node, x) if other is None else walk.join(x, other)


def _batch_norm(walk, node, x):
    _, weight, bias, residual = node.inputs
    walk.follow(x.axis, weight, bias)
    walk.axes.follow(x.axis, node.running_mean)
    walk.axes.follow(x.axis, node.running_var)
    if residual is None:
        return x
    if (other := walk.channels(residual)) is not None:
        return walk.join(x, other)
    walk.axes.pin(x.axis)
    return x


def _depthwise(walk, node, x):
    _, weight, bias = node.inputs
    channels, filters = node.input_shape[0], weight.shape[0]
    if channels == 1:
        # Several filters of one channel, as in a stem that reads grey images, are a dense convolution.
        y = _Channels(walk.axes.new(filters), False)
    elif filters == channels:
        y = _Channels(x.axis, True)
    else:
        return _pin(walk, node, x)
    walk.follow(y.axis, weight, bias)
    return y


def _conv2d(walk, node, x):
    return _dense(walk, node, x) if node.groups == 1 else _pin(walk, node, x)


def _contraction(walk, node, x):
    if node.operator not in ("conv2d", "linear") or node.windows.groups > 1:
        return _pin(walk, node, x)
    y = _dense(walk, node, x)
    weight = node.inputs[1]
    name, module = walk.convolutions.get(id(weight), (None, None))
    if module is not None and walk.is_read_once(weight) and not node.relu:
        walk.axes.pointwise[name] = Pointwise(module, x.axis, y.axis, x.filtered)
    return y


def _dense(walk, node, x):
    _, weight, bias = node.inputs
    axis = walk.axes.new(weight.shape[0])
    walk.follow(axis, weight, bias)
    walk.follow(x.axis, weight, position=1)
    return _Channels(axis, False)


# An operator that is not here pins what it reads and writes.
_RULES = {
    AddFunction: _add,
    AvgPool2dFunction: _keep,
    BatchNormFunction: _batch_norm,
    ContractionFunction: _contraction,
    Conv2dFunction: _conv2d,
    DepthwiseFunction: _depthwise,
    DropoutFunction: _keep,
    FlattenFunction: _flatten,
    GlobalAvgPool2dFunction: _keep,
    MaxPool2dFunction: _keep,
    ReLUFunction: _keep,
    ScaleFunction: _keep,
}
