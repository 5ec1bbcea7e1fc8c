"""Depthwise separable blocks among the layers of a Sequential become one operator each in evaluation.

Wherever these layers follow each other,

    depthwise Conv2d, [BatchNorm2d], [ReLU], SCC or 1x1 Conv2d, [BatchNorm2d], [ReLU]

F.separable computes them: batch norms are folded into the convolutions beside them, and the image between the two
convolutions is never stored. That is so if the Sequential is in evaluation mode and nothing is being recorded (within
no_grad, or no gradient required), for layers of exactly these classes without hooks or a forward of their own, if the
batch norms are in evaluation mode and have running statistics, and if the depthwise convolution has one filter a
channel and the 1x1 convolution a stride of 1. It is decided anew at every call, from the layers as they are then.

Results are those of the layers one by one up to rounding, not to the bit. ``unfused`` switches it off:

    with nn.unfused():
        y = model(x)
"""

from __future__ import annotations

from sccengine import backend
from sccengine import functional as F
from sccengine.autograd import as_tensor, is_grad_enabled
from sccengine.functional.separable import Stage
from sccengine.nn.batch_norm import BatchNorm2d
from sccengine.nn.conv2d import Conv2d
from sccengine.nn.relu import ReLU
from sccengine.nn.scc import SCC
from sccengine.thread_switch import ThreadSwitch


class unfused(ThreadSwitch):
    """Context manager and decorator within which, in this thread, every layer computes for itself."""


def apply(layers, x):
    """x through the layers of a Sequential in evaluation mode, separable blocks in one step."""
    if (capture := backend.current_capture()) is not None:
        capture.asks(unfused.is_on, "whether layers compute for themselves (nn.unfused)")
    at = 0
    while at < len(layers):
        block = None if unfused.is_on() else _block_at(layers, at)
        if block is None or not _fits(block, x):
            x = layers[at](x)
            at += 1
        else:
            x = _run(block, x)
            at += sum(len(part) for part in block)
    return x


def _block_at(layers, at):
    """([depthwise layer, batch norm or ReLU ...], [1x1 layer, ...]) from layers[at] on, or None."""
    if not _is_depthwise(layers[at]):
        return None
    depthwise = _stage_at(layers, at)
    at += len(depthwise)
    if at == len(layers) or not _is_mixing(layers[at]):
        return None
    return depthwise, _stage_at(layers, at)


def _stage_at(layers, at):
    """The convolution layers[at] and what can be folded into it."""
    stage = layers[at : at + 1]
    for kind in (BatchNorm2d, ReLU):
        following = layers[at + len(stage)] if at + len(stage) < len(layers) else None
        if _is_plain(following, kind) and (kind is ReLU or _is_constant(following, stage[0])):
            stage.append(following)
    return stage


def _is_plain(layer, kind):
    """Whether calling the layer does what the class says and nothing else."""
    return type(layer) is kind and not layer._forward_hooks and "forward" not in vars(layer)


def _is_constant(norm, convolution):
    """Whether a batch norm multiplies and adds the same numbers whatever comes in."""
    return not norm.training and norm.running_mean is not None and norm.num_features == convolution.out_channels


def _is_depthwise(layer):
    return _is_plain(layer, Conv2d) and layer.groups == layer.in_channels == layer.out_channels


def _is_mixing(layer):
    is_known = _is_plain(layer, SCC) or _is_plain(layer, Conv2d)
    return is_known and layer.stride == (1, 1) and layer.windows is not None


def _fits(block, x):
    """Whether nothing is recorded, and x and the layers fit together: else the layer that they do not fit says so."""
    depthwise, mixing = block[0][0], block[1][0]
    x = as_tensor(x)
    if x.ndim != 4 or not x.shape[1] == depthwise.in_channels == mixing.in_channels:
        return False
    if not is_grad_enabled():
        return True
    parameters = (p for part in block for layer in part for p in layer._parameters.values() if p is not None)
    return not x.requires_grad and not any(p.requires_grad for p in parameters)


def _run(block, x):
    capture = backend.current_capture()
    if capture is not None:
        for layer in (*block[0], *block[1]):
            capture.calls(layer)
    depthwise, mixing = block[0][0], block[1][0]
    stages = (_stage(*part) for part in block)
    return F.separable(x, *stages, windows=mixing.windows, stride=depthwise.stride, padding=depthwise.padding)


def _stage(convolution, *following):
    relu = False
    norm = ()
    for layer in following:
        if type(layer) is BatchNorm2d:
            norm = (layer.weight, layer.bias, layer.running_mean, layer.running_var, layer.eps)
            relu = layer.relu
        else:
            relu = True
    return Stage(convolution.weight, convolution.bias, *norm, relu=relu)
