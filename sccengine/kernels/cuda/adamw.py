"""The AdamW step with decoupled weight decay by PyTorch's rule, in place, one thread per element.

    m = beta1 * m + (1 - beta1) * g        v = beta2 * v + (1 - beta2) * g**2
    parameter = parameter * (1 - lr * weight_decay)
                - lr / (1 - beta1**step) * m / (sqrt(v) / sqrt(1 - beta2**step) + eps)

(Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.) What does not depend on the element is
computed once, on the host and in float64: 1 - beta2**step has few correct digits in float32 when step is small.
"""

from __future__ import annotations

import math

from numba import cuda

from sccengine.kernels.cuda.indexing import thread_index
from sccengine.kernels.cuda.launch import elements


@cuda.jit
def update_v1(
    parameter,  # (M,), in and out
    gradient,  # (M,)
    first_moment,  # (M,), in and out
    second_moment,  # (M,), in and out
    beta1,
    one_minus_beta1,
    beta2,
    one_minus_beta2,
    decay,  # 1 - lr * weight_decay
    step_size,  # lr / (1 - beta1**step)
    correction,  # sqrt(1 - beta2**step)
    eps,
):
    i = thread_index()
    if i >= parameter.size:
        return
    g = gradient[i]
    m = beta1 * first_moment[i] + one_minus_beta1 * g
    v = beta2 * second_moment[i] + one_minus_beta2 * g * g
    first_moment[i] = m
    second_moment[i] = v
    parameter[i] = parameter[i] * decay - step_size * m / (math.sqrt(v) / correction + eps)


def update(parameter, gradient, first_moment, second_moment, lr, beta1, beta2, eps, weight_decay, step):
    """Step number `step` (1 is the first) on the flat arrays parameter, first_moment and second_moment."""
    elements(
        update_v1,
        parameter.size,
        parameter,
        gradient,
        first_moment,
        second_moment,
        float(beta1),
        1.0 - beta1,
        float(beta2),
        1.0 - beta2,
        1.0 - lr * weight_decay,
        lr / (1.0 - beta1**step),
        math.sqrt(1.0 - beta2**step),
        float(eps),
    )


COMPILE = [
    (update_v1, "FFFFffffffff"),
]
