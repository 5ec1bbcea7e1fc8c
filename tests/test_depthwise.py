"""Depthwise convolution: values, gradients, memory orders, only the gradients needed, bad inputs, the layer."""

import numpy as np
import pytest

import sccengine.functional as F
from sccengine import nn
from sccengine.autograd import Tensor
from sccengine.gradcheck import check_gradients
from tests.checks import depthwise as checks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", checks.CASES, ids=str)
def test_matches_reference(case, dtype):
    checks.check("cpu", case, dtype)


def _inputs(m=2, kernel=(3, 2)):
    random = np.random.default_rng(0)
    return [random.standard_normal(s) for s in ((2, 3, 5, 4), (3 * m, 1, *kernel), (3 * m,))]


@pytest.mark.parametrize("stride, padding", [(1, 1), (2, 1), ((1, 2), (0, 2))])
def test_gradcheck(stride, padding):
    settings = {"stride": stride, "padding": padding}
    check_gradients(lambda x, weight, bias: F.depthwise_conv2d(x, weight, bias, **settings), _inputs())


def test_any_memory_order_gives_the_same():
    x, weight, bias = _inputs()
    want = F.depthwise_conv2d(x, weight, bias).numpy()
    for array in (np.asfortranarray(x), np.repeat(x, 2, axis=3)[..., ::2]):
        np.testing.assert_array_equal(F.depthwise_conv2d(array, weight, bias).numpy(), want)
    np.testing.assert_array_equal(F.depthwise_conv2d(x, np.asfortranarray(weight), bias).numpy(), want)


@pytest.mark.parametrize("needed", [(True, False, False), (False, True, False), (False, False, True)])
def test_only_the_gradients_needed(needed):
    tensors = [Tensor(array, requires_grad=n) for array, n in zip(_inputs(), needed)]
    y = F.depthwise_conv2d(*tensors)
    x_kept, weight_kept = (array is not None for array in y.creator.saved)
    assert (x_kept, weight_kept) == (needed[1], needed[0]), "each gradient needs the other operand only"
    y.backward(Tensor(np.ones(y.shape)))
    assert tuple(t.grad is not None for t in tensors) == needed


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("images", [2, 33])
def test_a_gradient_alone_is_that_of_all_together(images, m):
    random = np.random.default_rng(1)
    arrays = [random.standard_normal(s, dtype=np.float32) for s in ((images, 3, 7, 6), (3 * m, 1, 3, 3), (3 * m,))]

    def gradients(*needed):
        tensors = [Tensor(array, requires_grad=n) for array, n in zip(arrays, needed)]
        y = F.depthwise_conv2d(*tensors, stride=2, padding=1)
        y.backward(Tensor(np.cos(np.arange(y.size, dtype=np.float32)).reshape(y.shape)))
        return [None if t.grad is None else t.grad.numpy() for t in tensors]

    together = gradients(True, True, True)
    for alone in ((True, False, False), (False, True, False), (False, False, True), (False, True, True)):
        for found, wanted in zip(gradients(*alone), together):
            if found is not None:
                np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("images", [1, 16])
@pytest.mark.parametrize("stride, padding, at", [(4, 0, 4), (1, 0, 0), (1, 1, 0)])
def test_dweight_of_what_is_not_finite_is_spoilt_only_where_it_is_read(stride, padding, at, images, value):
    x = np.ones((images, 1, 5, 5), np.float32)
    x[0, 0, at, at] = value
    weight = Tensor(np.ones((1, 1, 3, 3), np.float32), requires_grad=True)
    y = F.depthwise_conv2d(x, weight, stride=stride, padding=padding)
    y.backward(Tensor(np.ones(y.shape, np.float32)))
    padded = np.zeros((images, 5 + 2 * padding, 5 + 2 * padding))
    padded[:, padding : padding + 5, padding : padding + 5] = x[:, 0]
    outputs = y.shape[2]

    def read(a, b):
        return padded[:, a : a + outputs * stride : stride, b : b + outputs * stride : stride][:, :outputs, :outputs]

    wanted = [[read(a, b).sum() for b in range(3)] for a in range(3)]
    np.testing.assert_array_equal(weight.grad.numpy()[0, 0], wanted)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"x": np.zeros((2, 3, 5))}, ValueError, r"depthwise_conv2d: input must be \(N, C, H, W\)"),
        ({"weight": np.zeros((4, 1, 3, 3))}, ValueError, r"weight must be \(m \* 3, 1, kh, kw\) .* got shape \(4, 1"),
        ({"weight": np.zeros((3, 3, 3, 3))}, ValueError, r"weight must be \(m \* 3, 1, kh, kw\)"),
        ({"bias": np.zeros(3)}, ValueError, r"depthwise_conv2d: bias must have shape \(6,\), got \(3,\)"),
        ({"weight": np.zeros((6, 1, 3, 3), np.float32)}, TypeError, "weight is float32 but the input is float64"),
        ({"weight": np.zeros((6, 1, 7, 3))}, ValueError, "7x3 window .* does not fit an image of 5x4"),
        ({"stride": 0}, ValueError, "depthwise_conv2d: stride must be at least 1, got 0"),
        ({"padding": "same"}, TypeError, "depthwise_conv2d: padding must be an int or a pair"),
    ],
)
def test_bad_inputs(change, error, message):
    x, weight, bias = _inputs()
    with pytest.raises(error, match=message):
        F.depthwise_conv2d(**{"x": x, "weight": weight, "bias": bias, **change})


def test_layer_is_conv2d_with_as_many_groups_as_channels():
    layer = nn.Conv2d(3, 6, 3, padding=1, groups=3)
    x = np.random.default_rng(1).standard_normal((2, 3, 5, 4)).astype(np.float32)
    want = F.depthwise_conv2d(x, layer.weight, layer.bias, padding=1).numpy()
    np.testing.assert_array_equal(layer(x).numpy(), want)
