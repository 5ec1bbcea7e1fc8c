"""SGD, PyTorch's rule, in place, for all parameters of a group:

g = gradient + weight_decay * parameter
v = momentum * v + g                               (v = -0.0 before the first step: it becomes g)
parameter -= lr * (g + momentum * v  if nesterov, else v;  g without momentum)
"""

from sccengine.kernels.cpu.compile import jit


@jit
def _plain(
    parameter,  # (n,)
    gradient,  # (n,)
    lr,
    weight_decay,
):
    rate = parameter.dtype.type(lr)
    decay = parameter.dtype.type(weight_decay)
    for i in range(parameter.size):
        parameter[i] -= rate * (gradient[i] + decay * parameter[i])


@jit
def _with_momentum(
    parameter,  # (n,)
    gradient,  # (n,)
    velocity,  # (n,)
    lr,
    momentum,
    weight_decay,
    nesterov,
):
    rate = parameter.dtype.type(lr)
    decay = parameter.dtype.type(weight_decay)
    keep = parameter.dtype.type(momentum)
    for i in range(parameter.size):
        g = gradient[i] + decay * parameter[i]
        v = keep * velocity[i] + g
        velocity[i] = v
        parameter[i] -= rate * (g + keep * v if nesterov else v)


def update(
    parameters,  # a list of C-contiguous arrays, changed in place
    gradients,  # a list of the same shapes, as the next
    momentum_buffers,  # changed in place; None without momentum
    rates,  # (3,), float64: lr, momentum, weight_decay
    nesterov,
):
    lr, momentum, weight_decay = rates.tolist()
    if momentum_buffers is None:
        for parameter, gradient in zip(parameters, gradients):
            _plain(parameter.reshape(-1), gradient.reshape(-1), lr, weight_decay)
        return
    nesterov = bool(nesterov)
    for parameter, gradient, buffer in zip(parameters, gradients, momentum_buffers):
        flat = parameter.reshape(-1), gradient.reshape(-1), buffer.reshape(-1)
        _with_momentum(*flat, lr, momentum, weight_decay, nesterov)
