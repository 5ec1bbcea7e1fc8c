"""Training steps of DSCNet in float64 from sccengine.reference alone: what every framework's losses are compared with.

The network is read off the names and shapes of a state dict: stem, blocks of depthwise 3x3 and channel mixing (a 1x1
convolution where the weight has four axes, a sliding-channel convolution where it has two), pool, head.
"""

from __future__ import annotations

import numpy as np

from sccengine import reference

STRIDES = (1, 2, 2)  # of the depthwise convolutions


def training_losses(state, batches, *, groups, overlap, lr, momentum):
    """Loss before each SGD step over ``batches``, a list of (images (N, C, H, W), labels (N,))."""
    parameters = {
        name: np.asarray(value, np.float64)
        for name, value in state.items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    }
    buffers = dict.fromkeys(parameters)
    losses = []
    for images, labels in batches:
        logits, undo = _forward(parameters, images, groups, overlap)
        losses.append(reference.cross_entropy_forward(logits, labels))
        gradients = {}
        gradient = reference.cross_entropy_backward(logits, labels)
        for step in reversed(undo):
            gradient = step(gradient, gradients)
        for name, value in gradients.items():
            parameters[name], buffers[name] = reference.sgd_update(parameters[name], value, buffers[name], lr, momentum)
    return np.array(losses)


def _forward(parameters, x, groups, overlap):
    undo = []
    x = _convolution(parameters, "stem.conv", x, undo, (1, 1, 1))
    x = _norm_relu(parameters, "stem.norm", x, undo)
    for block, stride in enumerate(STRIDES):
        name = f"blocks.{block}"
        x = _convolution(parameters, f"{name}.depthwise", x, undo, (stride, 1, x.shape[1]))
        x = _norm_relu(parameters, f"{name}.depthwise_norm", x, undo)
        if parameters[f"{name}.mix.weight"].ndim == 4:
            x = _convolution(parameters, f"{name}.mix", x, undo, (1, 0, 1))
        else:
            x = _sliding(parameters, f"{name}.mix", x, undo, (groups, overlap))
        x = _norm_relu(parameters, f"{name}.norm", x, undo)
    shape = x.shape
    undo.append(lambda dy, _: reference.global_avg_pool2d_backward(dy, shape))
    pooled = reference.global_avg_pool2d_forward(x)
    weight, bias = parameters["head.weight"], parameters["head.bias"]
    undo.append(_keeping(("head.weight", "head.bias"), lambda dy: reference.linear_backward(dy, pooled, weight)))
    return reference.linear_forward(pooled, weight, bias), undo


def _keeping(names, backward):
    """An undo step: stores the parameters' gradients by name, returns the input's."""

    def step(dy, gradients):
        dx, *found = backward(dy)
        gradients.update(zip(names, found))
        return dx

    return step


def _layer(parameters, name):
    names = [f"{name}.weight"] + [f"{name}.bias"] * (f"{name}.bias" in parameters)
    return names, parameters[names[0]], parameters.get(f"{name}.bias")


def _convolution(parameters, name, x, undo, settings):
    names, weight, bias = _layer(parameters, name)
    undo.append(_keeping(names, lambda dy: reference.conv2d_backward(dy, x, weight, *settings)))
    return reference.conv2d_forward(x, weight, bias, *settings)


def _sliding(parameters, name, x, undo, settings):
    names, weight, bias = _layer(parameters, name)
    undo.append(_keeping(names, lambda dy: reference.scc_backward(dy, x, weight, *settings)))
    return reference.scc_forward(x, weight, bias, *settings)


def _norm_relu(parameters, name, x, undo):
    names, weight, bias = _layer(parameters, name)
    y, _, _ = reference.batch_norm_training_forward(x, weight, bias)
    undo.append(_keeping(names, lambda dy: reference.batch_norm_training_backward(dy, x, weight)))
    undo.append(lambda dy, _: reference.relu_backward(dy, y))
    return reference.relu_forward(y)
