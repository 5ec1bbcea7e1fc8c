"""AdamW (Loshchilov and Hutter 2019) with decoupled weight decay, PyTorch's rule, in place on flat arrays:

parameter *= 1 - lr * weight_decay
m = beta1 * m + (1 - beta1) * g          v = beta2 * v + (1 - beta2) * g**2
parameter -= lr / (1 - beta1**step) * m / (sqrt(v / (1 - beta2**step)) + eps)
"""

import math

import numpy as np

from sccengine.kernels.cpu.compile import jit


@jit
def _update(
    parameter,  # (n,)
    gradient,  # (n,)
    first_moment,  # (n,)
    second_moment,  # (n,)
    shrink,  # 1 - lr * weight_decay
    rate,  # lr / (1 - beta1**step)
    beta1,
    beta2,
    correction,  # 1 / sqrt(1 - beta2**step)
    eps,
):
    number = parameter.dtype.type
    shrink, rate, correction, eps = number(shrink), number(rate), number(correction), number(eps)
    keep1, take1 = number(beta1), number(1 - beta1)
    keep2, take2 = number(beta2), number(1 - beta2)
    for i in range(parameter.size):
        g = gradient[i]
        m = keep1 * first_moment[i] + take1 * g
        v = keep2 * second_moment[i] + take2 * g * g
        first_moment[i] = m
        second_moment[i] = v
        parameter[i] = shrink * parameter[i] - rate * m / (np.sqrt(v) * correction + eps)


def update(
    parameter,  # (n,), changed in place
    gradient,  # (n,)
    first_moment,  # (n,), changed in place
    second_moment,  # (n,), changed in place
    lr,
    beta1,
    beta2,
    eps,
    weight_decay,
    step,  # int, from 1
):
    _update(
        parameter,
        gradient,
        first_moment,
        second_moment,
        1.0 - lr * weight_decay,
        lr / (1.0 - beta1**step),
        float(beta1),
        float(beta2),
        1.0 / math.sqrt(1.0 - beta2**step),
        float(eps),
    )
