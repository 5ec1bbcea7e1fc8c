"""AdamW (Loshchilov and Hutter 2019) with decoupled weight decay, PyTorch's rule, in place, for all parameters of a
group:

parameter *= 1 - lr * weight_decay
m = beta1 * m + (1 - beta1) * g          v = beta2 * v + (1 - beta2) * g**2
parameter -= lr / (1 - beta1**step) * m / (sqrt(v / (1 - beta2**step)) + eps)

What does not depend on the element comes as `rates`:

beta1, 1 - beta1, beta2, 1 - beta2, 1 - lr * weight_decay, lr / (1 - beta1**step), sqrt(1 - beta2**step), eps
"""

import numpy as np

from sccengine.kernels.cpu.compile import jit


@jit
def _update(
    parameter,  # (n,)
    gradient,  # (n,)
    first_moment,  # (n,)
    second_moment,  # (n,)
    rates,  # (8,)
):
    keep1, take1, keep2, take2, shrink, rate, root, eps = rates.astype(parameter.dtype)
    correction = parameter.dtype.type(1 / rates[6])
    # g**2 alone would overflow sooner than what is added.
    root_take2 = np.sqrt(take2)
    for i in range(parameter.size):
        g = gradient[i]
        m = keep1 * first_moment[i] + take1 * g
        share = root_take2 * g
        v = keep2 * second_moment[i] + share * share
        first_moment[i] = m
        second_moment[i] = v
        parameter[i] = shrink * parameter[i] - rate * m / (np.sqrt(v) * correction + eps)


def update(
    parameters,  # a list of C-contiguous arrays, changed in place
    gradients,  # a list of the same shapes, as the next two
    first_moments,  # changed in place
    second_moments,  # changed in place
    rates,  # (8,), float64
):
    for tensors in zip(parameters, gradients, first_moments, second_moments):
        _update(*(tensor.reshape(-1) for tensor in tensors), rates)
