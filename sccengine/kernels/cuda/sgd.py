"""The SGD step by PyTorch's rule, in place, one thread per element.

    g = gradient + weight_decay * parameter
    buffer = g on the first step, else momentum * buffer + g
    parameter -= lr * (g + momentum * buffer if nesterov else buffer)

Without momentum there is no buffer, and the step goes along g.
"""

from __future__ import annotations

from numba import cuda

from sccengine.kernels.cuda.indexing import thread_index
from sccengine.kernels.cuda.launch import elements


@cuda.jit
def update_v1(
    parameter,  # (M,), in and out
    gradient,  # (M,)
    momentum_buffer,  # (M,), in and out; touched only if has_buffer
    has_buffer,
    nesterov,
    first,  # whether the buffer holds nothing yet
    lr,
    momentum,
    weight_decay,
):
    i = thread_index()
    if i >= parameter.size:
        return
    direction = gradient[i] + weight_decay * parameter[i]
    if has_buffer:
        velocity = direction if first else momentum * momentum_buffer[i] + direction
        momentum_buffer[i] = velocity
        direction = direction + momentum * velocity if nesterov else velocity
    parameter[i] -= lr * direction


def update(parameter, gradient, momentum_buffer, lr, momentum, weight_decay, nesterov, first):
    """One step on the flat arrays parameter and momentum_buffer (None where momentum is 0)."""
    flags = (momentum_buffer is not None, nesterov, first)
    numbers = (float(lr), float(momentum), float(weight_decay))
    elements(update_v1, parameter.size, parameter, gradient, momentum_buffer, *flags, *numbers)


COMPILE = [
    (update_v1, "FFFiiifff"),
]
