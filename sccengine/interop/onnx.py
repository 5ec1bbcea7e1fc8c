"""Models as ONNX files, in standard operators only: any ONNX runtime runs them.

The graph is read from the tape of one forward pass (trace.py): every Function has a converter below, a function of the
graph being built, the Function, and the names of its inputs, which adds nodes and returns the name of the result. The
batch axis is free; height and width are those given. Batch norm is in its inference form.

ONNX knows no cyclic channel windows. A sliding-channel layer becomes one of

    dense     a 1x1 Conv of all channels, the weights scattered into (O, C, 1, 1), zero outside the windows
    grouped   Gather of the D distinct windows' channels, a Conv with D groups, Gather of its filters into order

In onnxruntime 1.32 on one CPU core, in ms (N, C, O, H = W, overlap 0.5):

    16,  64,  64, 32, groups 2    dense 1.81    grouped 2.94
    16, 128, 128, 16, groups 4    dense 1.23    grouped 1.22
    32, 256, 256,  8, groups 2    dense 2.17    grouped 1.83
    32, 256, 256,  8, groups 8    dense 2.07    grouped 1.28
     1, 512, 512,  7, groups 8    dense 0.18    grouped 0.07

so the grouped form is used from 4 groups on where it gathers at most two copies of the channels (D * K <= 2 * C) and
D divides O, and the dense form elsewhere.
"""

from __future__ import annotations

import json
import math

import numpy as np

from sccengine import __version__, backend, nn
from sccengine.autograd import Tensor
from sccengine.files import is_path, write_atomically
from sccengine.interop.trace import trace
from sccengine.models.mode import device_of_model, evaluation_mode

OPSET = 17
# The file format that came with opset 17, so that runtimes from 2022 on read the file.
IR_VERSION = 8
# Largest difference from the engine's logits, relative to the largest of these.
TOLERANCE = 1e-5
INPUT, OUTPUT = "images", "logits"
_CHECKED_IMAGES = 3


def export(model, path, input_shape, metadata=None):
    """Write `model` to the ONNX file `path`; returns the largest error found, or None where it was not verified.

    model         a Module in float32 that maps (N, C, H, W) to one Tensor, logits as a rule
    input_shape   (C, H, W) of one image
    metadata      name -> text, number ..., kept as the file's metadata_props beside "sccengine" (the engine's version)
                  and "sccengine.windows" (JSON: groups, overlap, width and shift of each sliding-channel layer)

    With onnxruntime installed, the file's outputs for a few random images are compared with the engine's before
    anything is written, and the error (relative to the largest output) is at most 1e-5, or RuntimeError is raised.

    Raises ImportError where onnx is not installed, ValueError for an operator without an ONNX form, by name, and
    TypeError for swapped arguments.
    """
    if not isinstance(model, nn.Module) or not is_path(path):
        raise TypeError(
            "onnx.export(model, path, input_shape) takes a Module and a path, "
            f"got {type(model).__name__} and {type(path).__name__}"
        )
    proto = build(model, input_shape, metadata)
    content = proto.SerializeToString()
    error = verify(content, model, input_shape)
    write_atomically(path, content)
    return error


def build(model, input_shape, metadata=None):
    """The onnx.ModelProto that `export` writes."""
    onnx = _import_onnx()
    _check_dtype(model)
    recorded = trace(model, input_shape, "ONNX export")
    graph = _Graph(onnx, model)
    graph.names[recorded.input] = INPUT
    for position, node in enumerate(recorded.nodes):
        convert = _CONVERTERS.get(node.name)
        if convert is None:
            raise ValueError(
                f"ONNX export: {node.name} has no ONNX form here; those known are {', '.join(_CONVERTERS)}"
            )
        graph.prefix = f"{position}_{node.name}"
        inputs = [None if tensor is None else graph.name_of(tensor) for tensor in node.inputs]
        graph.names[node] = convert(graph, node, *inputs)
    graph.node("Identity", [graph.names[recorded.output.creator]], outputs=[OUTPUT])
    return graph.proto(input_shape, recorded.output.shape[1:], _texts(model, metadata))


def verify(content, model, input_shape, seed=0):
    """The largest difference between the ONNX model in `content` (bytes) and `model`, relative to the largest output.

    None where onnxruntime is not installed. RuntimeError where it is above 1e-5, or not finite.
    """
    try:
        import onnxruntime
    except ImportError:
        return None
    images = np.random.default_rng(seed).standard_normal((_CHECKED_IMAGES, *input_shape)).astype(np.float32)
    with evaluation_mode(model):
        wanted = backend.to_host(model(Tensor(images, device=device_of_model(model))).array)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {INPUT: images})
    error = float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), np.finfo(np.float32).tiny))
    if not error <= TOLERANCE:
        raise RuntimeError(
            f"ONNX export: onnxruntime's outputs differ from the engine's by {error:.2g} of the largest, "
            f"more than {TOLERANCE:g}; nothing was written"
        )
    return error


def _import_onnx():
    try:
        import onnx
    except ImportError as error:
        raise ImportError(f'ONNX export needs the package onnx ({error}): pip install "sccengine[onnx]"') from error
    return onnx


def _check_dtype(model):
    for name, parameter in model.named_parameters():
        if parameter.dtype != np.float32:
            raise ValueError(f"ONNX export: {name} is {parameter.dtype}; export float32: model.to(dtype='float32')")


def _texts(model, metadata):
    """metadata_props: everything as text."""
    windows = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.SCC):
            windows[name] = {
                "groups": layer.groups,
                "overlap": str(layer.overlap),
                "width": layer.windows.width,
                "shift": layer.windows.shift,
            }
    texts = {"sccengine": __version__, "sccengine.windows": json.dumps(windows)}
    return texts | {name: str(value) for name, value in (metadata or {}).items()}


class _Graph:
    """Nodes and constants collected so far, and the names of values by the Function or leaf that they come from."""

    def __init__(self, onnx, model):
        self.onnx = onnx
        self.nodes = []
        self.constants = {}
        self.names = {}
        self.prefix = ""
        self.parameter_names = {id(parameter): name for name, parameter in model.named_parameters()}

    def name_of(self, tensor):
        """The name of an input of a Function; a leaf that is not the model's input becomes a constant."""
        key = tensor if tensor.creator is None else tensor.creator
        if key not in self.names:
            name = self.parameter_names.get(id(tensor), f"{self.prefix}_constant{len(self.constants)}")
            self.names[key] = self.constant(name, backend.to_host(tensor.array))
        return self.names[key]

    def constant(self, name, array):
        """Add an array under the name, or one like it where another array has that; returns the name."""
        if name in self.constants and not np.array_equal(self.constants[name], array):
            name = f"{name}_{len(self.constants)}"
        self.constants[name] = np.array(array, order="C")
        return name

    def values(self, name):
        """The array of a constant, for a converter that rearranges it; ValueError for a computed value."""
        if name not in self.constants:
            raise ValueError(f"ONNX export: {self.prefix}: a weight that the model computes has no ONNX form here")
        return self.constants[name]

    def node(self, operator, inputs, outputs=None, **attributes):
        """Add a node with one result and return the result's name."""
        outputs = outputs or [f"{self.prefix}_{len(self.nodes)}"]
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, outputs, **attributes))
        return outputs[0]

    def proto(self, input_shape, output_shape, texts):
        onnx = self.onnx
        helper, dtype = onnx.helper, onnx.TensorProto.FLOAT
        read = {name for node in self.nodes for name in node.input}
        graph = helper.make_graph(
            self.nodes,
            "sccengine",
            [helper.make_tensor_value_info(INPUT, dtype, ["N", *input_shape])],
            [helper.make_tensor_value_info(OUTPUT, dtype, ["N", *output_shape])],
            # A rearranged weight leaves the original behind, which nothing reads.
            [onnx.numpy_helper.from_array(a, name) for name, a in self.constants.items() if name in read],
        )
        opset = helper.make_opsetid("", OPSET)
        proto = helper.make_model(
            graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="sccengine", producer_version=__version__
        )
        helper.set_model_props(proto, texts)
        onnx.checker.check_model(proto, full_check=True)
        return proto


# --- one converter a Function ---------------------------------------------------------------------------------------


def _present(*names):
    return [name for name in names if name is not None]


def _activated(graph, name, relu):
    return graph.node("Relu", [name]) if relu else name


def _contraction(graph, node, x, weight, bias):
    if node.operator == "linear":
        y = graph.node("Gemm", _present(x, weight, bias), transB=1)
    else:
        y = _pointwise(graph, node, x, weight, bias)
    return _activated(graph, y, node.relu)


def _pointwise(graph, node, x, weight, bias):
    windows, strides = node.windows, list(node.stride)
    if node.operator == "conv2d":
        return graph.node("Conv", _present(x, weight, bias), group=windows.groups, strides=strides)
    taps = graph.values(weight)
    if not _runs_faster_grouped(windows):
        weight = graph.constant(f"{weight}.dense", windows.scatter(taps)[:, :, None, None])
        return graph.node("Conv", _present(x, weight, bias), strides=strides)
    cycle = windows.cycle
    # Filters f, f + D, f + 2D ... read the same window: one group each.
    order = np.arange(windows.out_channels).reshape(-1, cycle).T.reshape(-1)
    gathered = graph.constant(f"{weight}.channels", windows.channels()[:cycle].reshape(-1).astype(np.int64))
    weight = graph.constant(f"{weight}.grouped", taps[order][:, :, None, None])
    if bias is not None:
        bias = graph.constant(f"{bias}.grouped", graph.values(bias)[order])
    stack = graph.node("Gather", [x, gathered], axis=1)
    y = graph.node("Conv", _present(stack, weight, bias), group=cycle, strides=strides)
    return graph.node("Gather", [y, graph.constant(f"{weight}.order", np.argsort(order))], axis=1)


def _runs_faster_grouped(windows):
    """See the figures at the head of this file."""
    gathered = windows.cycle * windows.width
    return windows.groups >= 4 and gathered <= 2 * windows.in_channels and windows.out_channels % windows.cycle == 0


def _conv(graph, node, x, weight, bias):
    return _spatial(graph, node, node.groups, x, weight, bias)


def _depthwise(graph, node, x, weight, bias):
    return _spatial(graph, node, node.input_shape[0], x, weight, bias)


def _spatial(graph, node, groups, x, weight, bias):
    settings = {"strides": list(node.stride), "pads": [*node.padding, *node.padding]}
    return graph.node("Conv", _present(x, weight, bias), group=groups, **settings)


def _batch_norm(graph, node, x, weight, bias, residual):
    if node.training:
        raise ValueError(
            "ONNX export: a BatchNorm2d normalises with the batch's own statistics in evaluation too "
            "(track_running_stats=False), which has no inference form"
        )
    channels = node.running_mean.shape
    one = weight or graph.constant(f"{graph.prefix}_weight", np.ones(channels, np.float32))
    zero = bias or graph.constant(f"{graph.prefix}_bias", np.zeros(channels, np.float32))
    mean = graph.constant(f"{graph.prefix}_running_mean", backend.to_host(node.running_mean))
    var = graph.constant(f"{graph.prefix}_running_var", backend.to_host(node.running_var))
    y = graph.node("BatchNormalization", [x, one, zero, mean, var], epsilon=node.eps)
    if residual is not None:
        y = graph.node("Add", [y, residual])
    return _activated(graph, y, node.relu)


def _relu(graph, node, x):
    if node.ceiling == math.inf:
        return graph.node("Relu", [x])
    low = graph.constant(f"{graph.prefix}_low", np.float32(0))
    high = graph.constant(f"{graph.prefix}_high", np.float32(node.ceiling))
    return graph.node("Clip", [x, low, high])


def _pool(operator, **settings):
    def convert(graph, node, x):
        kernel, stride, padding = node.windows
        windows = {"kernel_shape": list(kernel), "strides": list(stride), "pads": [*padding, *padding]}
        return graph.node(operator, [x], **windows, **settings)

    return convert


def _global_average(graph, node, x):
    return graph.node("Flatten", [graph.node("GlobalAveragePool", [x])], axis=1)


def _shuffle(graph, node, x):
    groups, per_group = node.groups, node.inverse_groups
    order = np.arange(groups * per_group).reshape(groups, per_group).T.reshape(-1)
    return graph.node("Gather", [x, graph.constant(f"{graph.prefix}_order", order)], axis=1)


def _flatten(graph, node, x):
    return graph.node("Flatten", [x], axis=1)


def _add(graph, node, a, b):
    return graph.node("Add", [a, b])


def _scale(graph, node, x):
    return graph.node("Mul", [x, graph.constant(f"{graph.prefix}_factor", np.float32(node.factor))])


_CONVERTERS = {
    "Add": _add,
    "AvgPool2d": _pool("AveragePool", count_include_pad=1),
    "BatchNorm": _batch_norm,
    "ChannelShuffle": _shuffle,
    "Contraction": _contraction,
    "Conv2d": _conv,
    "Depthwise": _depthwise,
    "Flatten": _flatten,
    "GlobalAvgPool2d": _global_average,
    "MaxPool2d": _pool("MaxPool"),
    "ReLU": _relu,
    "Scale": _scale,
}
