"""Networks in float64 from sccengine.reference and oracle_scc: everybody is compared with their losses and logits.

The network is a list of layers, (kind, name, settings) each: the kind is one of LAYERS, the name that of its parameters
in the state dict, the settings those of the reference's function. Settings are all that it takes from the engine.
"""

from __future__ import annotations

import numpy as np

from sccengine import reference
from sccengine.bench import oracle_scc


def training_losses(layers, state, batches, *, lr, momentum):
    """Loss before each SGD step over ``batches``, a list of (images (N, C, H, W), labels (N,))."""
    parameters = {
        name: np.asarray(value, np.float64)
        for name, value in state.items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    }
    buffers = dict.fromkeys(parameters)
    losses = []
    for number, (images, labels) in enumerate(batches, 1):
        logits, undo = images, []
        for kind, name, settings in layers:
            logits = LAYERS[kind](parameters, name, logits, undo, settings)
        losses.append(reference.cross_entropy_forward(logits, labels))
        if number == len(batches):
            break
        gradients = {}
        gradient = reference.cross_entropy_backward(logits, labels)
        for step in reversed(undo):
            gradient = step(gradient, gradients)
        for name, value in gradients.items():
            parameters[name], buffers[name] = reference.sgd_update(parameters[name], value, buffers[name], lr, momentum)
    return np.array(losses)


def logits(layers, state, images):
    """(N, classes) of ``images`` (N, C, H, W) in evaluation: batch norms take the running statistics."""
    state = {name: np.asarray(value, np.float64) for name, value in state.items()}
    found = images
    for kind, name, settings in layers:
        layer = _norm_relu_in_evaluation if kind == "norm_relu" else LAYERS[kind]
        found = layer(state, name, found, [], settings)
    return found


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
    undo.append(_keeping(names, lambda dy: oracle_scc.backward(dy, x, weight, *settings)))
    return oracle_scc.forward(x, weight, bias, *settings)


def _norm_relu(parameters, name, x, undo, settings):
    names, weight, bias = _layer(parameters, name)
    y, _, _ = reference.batch_norm_training_forward(x, weight, bias)
    undo.append(_keeping(names, lambda dy: reference.batch_norm_training_backward(dy, x, weight)))
    undo.append(lambda dy, _: reference.relu_backward(dy, y))
    return reference.relu_forward(y)


def _norm_relu_in_evaluation(parameters, name, x, undo, settings):
    _, weight, bias = _layer(parameters, name)
    mean, var = parameters[f"{name}.running_mean"], parameters[f"{name}.running_var"]
    return reference.relu_forward(reference.batch_norm_inference_forward(x, weight, bias, mean, var))


def _max_pool(parameters, name, x, undo, settings):
    undo.append(lambda dy, _: reference.max_pool2d_backward(dy, x, *settings))
    return reference.max_pool2d_forward(x, *settings)[0]


def _global_avg_pool(parameters, name, x, undo, settings):
    undo.append(lambda dy, _: reference.global_avg_pool2d_backward(dy, x.shape))
    return reference.global_avg_pool2d_forward(x)


def _linear(parameters, name, x, undo, settings):
    names, weight, bias = _layer(parameters, name)
    undo.append(_keeping(names, lambda dy: reference.linear_backward(dy, x, weight)))
    return reference.linear_forward(x, weight, bias)


LAYERS = {
    "conv2d": _convolution,
    "scc": _sliding,
    "norm_relu": _norm_relu,
    "max_pool2d": _max_pool,
    "global_avg_pool2d": _global_avg_pool,
    "linear": _linear,
}
