"""Which channel axes of a model share one numbering, and which parameters and buffers follow it.

Every tensor of a trace has one channel axis. Depthwise convolutions, batch norms, activations, poolings and additions
keep the numbering of their input; dense convolutions and linear layers read one axis and write another. An axis may be
renumbered, at no cost and without changing what the model computes, unless something pins it: the image, the output,
layers whose channels have fixed places (grouped, sliding, shuffle), and every operator that is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sccengine import nn

_KEEPING = ("ReLUFunction", "MaxPool2dFunction", "AvgPool2dFunction", "GlobalAvgPool2dFunction", "DropoutFunction")
_KEEPING += ("ScaleFunction",)


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
    axes = Axes()
    modules = {id(m.weight): (name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    axis_of = {recorded.input: axes.new(recorded.input.shape[1])}
    axes.pin(axis_of[recorded.input])
    depthwise = set()  # nodes that a depthwise convolution feeds, with nothing but what keeps its numbering between
    uses = _uses(recorded)
    for node in recorded.nodes:
        kind = type(node).__name__
        sources = [t if t.creator is None else t.creator for t in node.inputs if t is not None]
        data = [source for source in sources if source in axis_of]
        first, x = axis_of[data[0]], data[0]
        filtered = any(source in depthwise for source in data)
        weight = node.inputs[1] if len(node.inputs) > 1 else None
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        axis = first
        if kind in _KEEPING:
            pass
        elif kind == "AddFunction" and len(data) == 2:
            axes.join(first, axis_of[data[1]])
        elif kind == "BatchNormFunction":
            for tensor in (weight, bias):
                axes.follow(first, _once(tensor, uses, axes, first))
            axes.follow(first, node.running_mean)
            axes.follow(first, node.running_var)
            if node.inputs[3] is not None:
                _join_or_pin(axes, axis_of, first, node.inputs[3])
        elif kind == "DepthwiseFunction" and (node.input_shape[0] == 1 or weight.shape[0] == node.input_shape[0]):
            filtered = node.input_shape[0] > 1
            # Several filters of one channel, as in a stem that reads grey images, are a dense convolution.
            axis = first if filtered else axes.new(weight.shape[0])
            axes.follow(axis, _once(weight, uses, axes, axis))
            axes.follow(axis, _once(bias, uses, axes, axis))
        elif _is_dense(node, kind):
            axis = axes.new(weight.shape[0])
            for tensor, position, numbered in ((weight, 0, axis), (weight, 1, first), (bias, 0, axis)):
                axes.follow(numbered, _once(tensor, uses, axes, numbered), position)
            name, module = modules.get(id(weight), (None, None))
            if kind == "ContractionFunction" and module is not None and not node.relu and uses[id(weight)] == 1:
                axes.pointwise[name] = Pointwise(module, first, axis, x in depthwise)
            filtered = False
        elif kind == "FlattenFunction" and node.rows_shape[1:-1] in ((), (1, 1)):
            pass
        else:
            for source in data:
                axes.pin(axis_of[source])
            axis = axes.new(0)
            axes.pin(axis)
            filtered = False
        axis_of[node] = axis
        if filtered:
            depthwise.add(node)
    axes.pin(axis_of[recorded.output.creator])
    for name, entry in axes.pointwise.items():
        axes.pointwise[name] = Pointwise(
            entry.module, axes.find(entry.reads), axes.find(entry.writes), entry.after_depthwise
        )
    return axes


def _is_dense(node, kind):
    if kind == "Conv2dFunction":
        return node.groups == 1
    return kind == "ContractionFunction" and node.operator in ("conv2d", "linear") and node.windows.groups == 1


def _uses(recorded):
    """How many nodes read each leaf."""
    uses = {}
    for node in recorded.nodes:
        for tensor in node.inputs:
            if tensor is not None and tensor.creator is None:
                uses[id(tensor)] = uses.get(id(tensor), 0) + 1
    return uses


def _once(tensor, uses, axes, axis):
    """The array of a leaf that one node reads; a shared or computed one pins the axis instead."""
    if tensor is None:
        return None
    if tensor.creator is not None or uses[id(tensor)] > 1:
        axes.pin(axis)
        return None
    return tensor.array


def _join_or_pin(axes, axis_of, axis, tensor):
    key = tensor if tensor.creator is None else tensor.creator
    if key in axis_of:
        axes.join(axis, axis_of[key])
    else:
        axes.pin(axis)
