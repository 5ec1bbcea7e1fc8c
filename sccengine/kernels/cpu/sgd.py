"""SGD, PyTorch's rule, in place on flat arrays:

g = gradient + weight_decay * parameter
v = g at the first step, else momentum * v + g
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
    first,
):
    rate = parameter.dtype.type(lr)
    decay = parameter.dtype.type(weight_decay)
    keep = parameter.dtype.type(momentum)
    if first:
        velocity[:] = 0
    for i in range(parameter.size):
        g = gradient[i] + decay * parameter[i]
        v = keep * velocity[i] + g
        velocity[i] = v
        parameter[i] -= rate * (g + keep * v if nesterov else v)


def update(
    parameter,  # (n,), changed in place
    gradient,  # (n,)
    momentum_buffer,  # (n,), changed in place; None without momentum
    lr,
    momentum,
    weight_decay,
    nesterov,
    first,  # bool: the buffer holds nothing yet
):
    if momentum_buffer is None:
        _plain(parameter, gradient, float(lr), float(weight_decay))
        return
    _with_momentum(
        parameter,
        gradient,
        momentum_buffer,
        float(lr),
        float(momentum),
        float(weight_decay),
        bool(nesterov),
        bool(first),
    )
