"""Dropout (Srivastava et al. 2014): each element is zeroed with probability p, the others are divided by 1 - p.

The mask is a pure function of a 64-bit key and the element's position, the same bits on every device, so nothing is
saved for backward: it applies the same function to dy. The key comes from the engine's seed (``scc.set_seed``).
"""

from __future__ import annotations

import numpy as np

from sccengine import numeric
from sccengine.autograd import Function, as_tensor
from sccengine.backend import empty, from_rows, host_value, kernels_for, next_key, rows
from sccengine.functional import checks


class DropoutFunction(Function):
    def __init__(self, probability, draw):
        self.probability = probability
        self.draw = draw  # gives the key; a captured step calls it again at each replay

    def forward(self, x):
        checks.batched("dropout", x)
        self.key = host_value(lambda: [self.draw()], x, np.uint64)
        return self._apply(x)

    def backward(self, dy):
        return (self._apply(dy),)

    def _apply(self, x):
        x = rows(x)
        y = empty(x.shape, like=x)
        kernels_for(x).dropout.apply(x.reshape(-1), y.reshape(-1), self.probability, self.key)
        return from_rows(y)


def dropout(x, p=0.5, training=True, key=None):
    """Zero elements of x (N, C, ...) with probability ``p`` in [0, 1); the identity where not ``training`` or p is 0.

    ``key``: an int in [0, 2**64) that fixes the mask; None draws the next one of the engine's seed.
    Raises ValueError for a ``p`` or ``key`` out of range, TypeError for one of another kind.
    """
    p = numeric.below_one("dropout", "p", p)
    if key is not None and numeric.whole("dropout", "key", key, least=0) >= 2**64:
        raise ValueError(f"dropout: key must be below 2**64, got {key}")
    if not training or p == 0.0:
        return as_tensor(x)
    return DropoutFunction(p, (lambda: next_key("dropout")) if key is None else (lambda: int(key)))(x)
