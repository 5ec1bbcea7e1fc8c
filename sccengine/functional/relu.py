"""ReLU and ReLU6: y = min(max(x, 0), ceiling), for any shape (N, C, ...). The gradient is 0 at both ends.

Only y is kept for backward: it tells where x was inside (0, ceiling).
"""

from __future__ import annotations

import math

from sccengine.autograd import Function
from sccengine.backend import empty, from_rows, kernels_for, rows
from sccengine.functional import checks


class ReLUFunction(Function):
    def __init__(self, operator, ceiling):
        self.operator = operator
        self.ceiling = ceiling

    def forward(self, x):
        checks.batched(self.operator, x)
        x = rows(x)
        y = empty(x.shape, like=x)
        kernels_for(x).relu.forward(x.reshape(-1), y.reshape(-1), self.ceiling)
        self.save(y)
        return from_rows(y)

    def backward(self, dy):
        (y,) = self.saved
        dx = empty(y.shape, like=y)
        kernels_for(y).relu.backward(rows(dy).reshape(-1), y.reshape(-1), dx.reshape(-1), self.ceiling)
        return (from_rows(dx),)


def relu(x):
    """max(x, 0). x: (N, C, ...); ValueError for fewer axes, TypeError unless floating."""
    return ReLUFunction("relu", math.inf)(x)


def relu6(x):
    """min(max(x, 0), 6). x: (N, C, ...); errors as those of ``relu``."""
    return ReLUFunction("relu6", 6.0)(x)
