"""What the benchmarks of single operators share: tensors in, one call through the graph, arrays out.

A case's axis "pass" is "forward" (no graph is recorded) or "both" (forward, then backward for every input).
"""

from __future__ import annotations

import numpy as np

from sccengine.autograd import Parameter, Tensor, no_grad

PASSES = ("forward", "both")


def with_passes(problems):
    """Each problem forward, and forward + backward."""
    return [{**problem, "pass": direction} for problem in problems for direction in PASSES]


def drawing(shapes):
    """Function of a generator that draws float32 normals of these shapes, a dict by name."""
    return lambda rng: {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


def prepare(axes, device, inputs, call):
    """run() of call(x, weight, bias) on tensors of the inputs "x", "weight", "bias", with the upstream gradient "dy".

    Gives {"y"}, or {"y", "dx", "dweight", "dbias"}.
    """
    x = Tensor(inputs["x"], requires_grad=True, device=device)
    weight, bias = (Parameter(inputs[name], device=device) for name in ("weight", "bias"))
    return through_the_graph(axes, x, weight, bias, inputs["dy"], lambda: call(x, weight, bias))


def prepare_layer(axes, device, inputs, layer):
    """The same of a layer with the inputs' weight and bias."""
    layer = layer.to(device)
    layer.load_state_dict({**layer.state_dict(), "weight": inputs["weight"], "bias": inputs["bias"]})
    x = Tensor(inputs["x"], requires_grad=True, device=device)
    return through_the_graph(axes, x, layer.weight, layer.bias, inputs["dy"], lambda: layer(x))


def through_the_graph(axes, x, weight, bias, dy, call):
    """run() of a call that takes nothing."""
    dy = Tensor(dy, device=x.device)
    if axes["pass"] == "forward":

        def forward():
            with no_grad():
                return {"y": call()}

        return forward

    def forward_backward():
        x.grad = weight.grad = bias.grad = None
        y = call()
        y.backward(dy)
        return {"y": y, "dx": x.grad, "dweight": weight.grad, "dbias": bias.grad}

    return forward_backward


def read(outputs):
    """Arrays of engine tensors, where they lie."""
    return {name: value.data for name, value in outputs.items()}


def named(gradients):
    """(dx, dweight, dbias) of an oracle by the names that candidates use."""
    return dict(zip(("dx", "dweight", "dbias"), gradients))
