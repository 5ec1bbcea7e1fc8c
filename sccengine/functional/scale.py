"""Multiplication of a tensor by a number, as the weight of one loss among several."""

from __future__ import annotations

from sccengine import numeric
from sccengine.autograd import Function
from sccengine.backend import empty, from_rows, kernels_for, rows
from sccengine.functional import checks


class ScaleFunction(Function):
    def __init__(self, factor):
        self.factor = numeric.finite("scale", "factor", factor)

    def forward(self, x):
        checks.floating("scale", x)
        return self._scaled(x)

    def backward(self, dy):
        return (self._scaled(dy),)

    def _scaled(self, x):
        x = rows(x)
        y = empty(x.shape, like=x)
        kernels_for(x).scale.forward(x.reshape(-1), y.reshape(-1), self.factor)
        return from_rows(y)


def scale(x, factor):
    """factor * x, of any shape, for a finite Python number; a captured step keeps the number it was captured with.

    TypeError for what is no number, ValueError for one that is not finite.
    """
    return ScaleFunction(factor)(x)
