"""Gradcheck finds wrong gradients, in small inputs and in large ones, and assert_close tells where."""

import numpy as np
import pytest

from sccengine.autograd import Function
from sccengine.gradcheck import Tolerance, assert_close, check_gradients


class Square(Function):
    def __init__(self, slope=2.0):
        self.slope = slope

    def forward(self, x):
        self.save(x)
        return x * x

    def backward(self, dy):
        return (self.slope * self.saved[0] * dy,)


@pytest.mark.parametrize("shape", [(3, 4), (40, 30)])
def test_right_and_wrong_gradients(shape):
    x = np.random.default_rng(0).standard_normal(shape)
    check_gradients(lambda t: Square()(t), [x])
    with pytest.raises(AssertionError, match="gradient of input 0"):
        check_gradients(lambda t: Square(slope=2.001)(t), [x])


def test_every_input_is_checked():
    class Product(Function):
        def forward(self, a, b):
            self.save(a, b)
            return a * b

        def backward(self, dy):
            a, b = self.saved
            return dy * b, dy * b  # the second is wrong

    random = np.random.default_rng(0)
    with pytest.raises(AssertionError, match="gradient of input 1"):
        check_gradients(lambda a, b: Product()(a, b), [random.standard_normal(5), random.standard_normal(5)])


def test_lower_precision_is_refused():
    with pytest.raises(TypeError, match="input 0 is float32"):
        check_gradients(lambda t: Square()(t), [np.zeros(3, np.float32)])


def test_assert_close_names_the_worst_element():
    with pytest.raises(AssertionError, match=r"y: 5.0 at \(1, 0\), expected 2.0"):
        assert_close("y", [[1, 1], [5, 1]], [[1, 1], [2, 1.5]], "float32")
    with pytest.raises(AssertionError, match=r"y: nan at \(1,\)"):
        assert_close("y", [0, np.nan], [0, 0], "float64")
    with pytest.raises(AssertionError, match=r"shape \(1,\), expected \(2,\)"):
        assert_close("y", [0], [0, 0], "float64")
    assert_close("y", [1.05], [1.0], Tolerance(relative=0.1, absolute=0.0))
