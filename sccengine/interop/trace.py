"""What a model computes, as the list of Functions that one forward pass in evaluation mode recorded.

The tape of the training graph knows every operator, its settings and its inputs, whatever the Python code of the
model's ``forward`` looks like; so whoever needs the model's graph (export, conversion) reads it from there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sccengine.autograd import Function, Tensor, recorded
from sccengine.models.mode import device_of_model, evaluation_mode
from sccengine.models.parts import image_shape


@dataclass(frozen=True)
class Trace:
    """The graph of a model between its input and its output.

    nodes    the Functions in the order in which they ran; ``node.inputs`` are Tensors (or None), of which one with a
             ``creator`` is that node's result, ``input`` is the model's input, and any other is a constant
    output   the Tensor that the model returned; its ``creator`` is the last node
    """

    input: Tensor
    output: Tensor
    nodes: tuple[Function, ...]


def trace(model, input_shape, owner="trace"):
    """The Trace of `model` (on its device and in its dtype) for images of `input_shape` (C, H, W), or (C,) of rows.

    One image of zeros is run through the model in evaluation mode; modes and state are left as they were. Raises
    TypeError or ValueError, which names `owner`, for another input_shape, and where the model does not give one Tensor
    that depends on its input.
    """
    input_shape = image_shape(owner, input_shape, flat=True)
    parameter = next(model.parameters(), None)
    dtype = np.dtype(np.float32) if parameter is None else parameter.dtype
    x = Tensor(np.zeros((1, *input_shape), dtype), requires_grad=True, device=device_of_model(model))
    with evaluation_mode(model, recording=True):
        y = model(x)
    if not isinstance(y, Tensor):
        raise TypeError(f"{owner}: {type(model).__name__} must return one Tensor, got {type(y).__name__}")
    if y.creator is None:
        raise ValueError(f"{owner}: the output of {type(model).__name__} does not depend on its input")
    return Trace(x, y, recorded(y))
