"""Max pooling: values, gradients, memory orders, bad inputs, the layer."""

import numpy as np
import pytest

import sccengine.functional as F
from sccengine import nn
from sccengine.autograd import Tensor
from sccengine.gradcheck import check_gradients
from tests.checks import max_pool2d as checks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", checks.CASES, ids=str)
def test_matches_reference(case, dtype):
    checks.check("cpu", case, dtype)


@pytest.mark.parametrize("windows", [(2, None, 0), ((3, 2), (2, 1), 1), (2, 3, 0)])
def test_gradcheck(windows):
    x = np.random.default_rng(0).permutation(2 * 3 * 6 * 5).reshape(2, 3, 6, 5) / 10.0
    check_gradients(lambda x: F.max_pool2d(x, *windows), [x])


def test_any_memory_order_gives_the_same():
    x = np.random.default_rng(1).standard_normal((4, 6, 5, 3))
    want = F.max_pool2d(x, 2).numpy()
    for array in (np.asfortranarray(x), np.repeat(x, 2, axis=2)[:, :, ::2], Tensor(x)):
        np.testing.assert_array_equal(F.max_pool2d(array, 2).numpy(), want)


@pytest.mark.parametrize(
    "shape, settings, error, message",
    [
        ((2, 3), (2,), ValueError, r"max_pool2d: input must be \(N, C, H, W\), got shape \(2, 3\)"),
        ((1, 1, 2, 5), (3,), ValueError, "3x3 window .* does not fit an image of 2x5: the output would be 0x1"),
        ((1, 1, 4, 4), (2, 1, 2), ValueError, r"padding must be at most half the kernel \(2, 2\), got \(2, 2\)"),
        ((1, 1, 4, 4), (0,), ValueError, "max_pool2d: kernel_size must be at least 1, got 0"),
        ((1, 1, 4, 4), (2, 0), ValueError, "max_pool2d: stride must be at least 1, got 0"),
        ((1, 1, 4, 4), (2, 1, -1), ValueError, "max_pool2d: padding must be at least 0, got -1"),
        ((1, 1, 4, 4), (2.5,), TypeError, r"max_pool2d: kernel_size must be an int or a pair .* got 2.5"),
        ((1, 1, 4, 4), ((2, 2, 2),), TypeError, r"max_pool2d: kernel_size must be an int or a pair"),
    ],
)
def test_bad_inputs(shape, settings, error, message):
    with pytest.raises(error, match=message):
        F.max_pool2d(np.zeros(shape, np.float32), *settings)


def test_layer():
    x = np.random.default_rng(2).standard_normal((2, 3, 6, 6))
    layer = nn.MaxPool2d(3, stride=2, padding=1)
    np.testing.assert_array_equal(layer(x).numpy(), F.max_pool2d(x, 3, 2, 1).numpy())
    assert repr(layer) == "MaxPool2d(kernel_size=3, stride=2, padding=1)"
    assert repr(nn.MaxPool2d(2)) == "MaxPool2d(kernel_size=2, stride=2, padding=0)"
    with pytest.raises(ValueError, match="MaxPool2d: padding must be at most half the kernel"):
        nn.MaxPool2d(2, padding=2)


def test_the_first_of_equals_gets_the_gradient():
    x = Tensor(np.zeros((1, 1, 2, 2), np.float32), requires_grad=True)
    F.max_pool2d(x, 2).backward(Tensor(np.ones((1, 1, 1, 1), np.float32)))
    np.testing.assert_array_equal(x.grad.numpy()[0, 0], [[1, 0], [0, 0]])


@pytest.mark.parametrize("images", [1, 16])
def test_the_value_is_that_of_the_winner_of_equal_zeros(images):
    x = np.full((images, 1, 2, 2), -5, np.float32)
    x[:, 0, 0, 1], x[:, 0, 1, 0] = -0.0, 0.0
    assert np.signbit(F.max_pool2d(x, 2).numpy()).all()


def test_nan_wins_and_padding_never_does():
    x = -np.ones((1, 1, 3, 3), np.float32)
    assert (F.max_pool2d(x, 3, 1, 1).numpy() == -1).all()
    x[0, 0, 1, 1] = np.nan
    assert np.isnan(F.max_pool2d(x, 3, 1, 1).numpy()).all()


@pytest.mark.parametrize("windows", [(2, 2, 0), (3, 1, 1), ((1, 3), 2, 0)])
def test_an_image_alone_gives_the_bits_that_it_gives_in_a_batch(windows):
    random = np.random.default_rng(3)
    images = random.choice(np.float32([0, 1, np.nan, np.inf, -np.inf]), (17, 2, 7, 6), p=[0.5, 0.2, 0.1, 0.1, 0.1])

    def both(images, dy):
        x = Tensor(images, requires_grad=True)
        y = F.max_pool2d(x, *windows)
        y.backward(Tensor(dy))
        return y.numpy(), x.grad.numpy()

    dy = random.standard_normal(F.max_pool2d(images, *windows).shape, dtype=np.float32)
    alone = [both(images[n : n + 1], dy[n : n + 1]) for n in range(len(images))]
    for batch, parts in zip(both(images, dy), zip(*alone)):
        np.testing.assert_array_equal(batch, np.concatenate(parts))
