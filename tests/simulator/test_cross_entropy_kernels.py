"""Cross-entropy's kernels: logits far apart, a class ruled out by -inf, bad labels, shares of blocks, both versions."""

import numpy as np
import pytest

import sccengine.functional as F
from sccengine import reference
from sccengine.autograd import Tensor
from sccengine.kernels.cpu import cross_entropy as cpu
from sccengine.kernels.cuda import cross_entropy, launch

BACKENDS = [cross_entropy, cpu]


def _forward(kernels, logits, labels, label_smoothing):
    """The mean loss and its gradient; both backends give the loss alone, too."""
    loss, alone, dlogits = np.full(1, np.nan, logits.dtype), np.empty(1, logits.dtype), np.full_like(logits, np.nan)
    kernels.forward(logits, np.array(labels), loss, dlogits, label_smoothing)
    kernels.forward(logits, np.array(labels), alone, None, label_smoothing)
    np.testing.assert_array_equal(loss, alone)
    return loss[0], dlogits


@pytest.mark.parametrize("kernels", BACKENDS)
@pytest.mark.parametrize("shift", [-1e30, 0.0, 1e30])
def test_large_logits_neither_overflow_nor_lose_the_loss(kernels, shift):
    logits = np.array([[0, 0, 200], [0, 200, 0], [0, 0, 0]], np.float32) + np.float32(shift)
    gap = 0 if shift else 200
    loss, dlogits = _forward(kernels, logits, [0, 0, 2], 0.0)
    want = [np.log(3), gap, gap] if gap else [np.log(3)] * 3
    np.testing.assert_allclose(loss, np.mean(want), rtol=1e-6)
    np.testing.assert_allclose(dlogits, reference.cross_entropy_backward(logits.T, [0, 0, 2]).T, atol=1e-7)


@pytest.mark.parametrize("kernels", BACKENDS)
def test_a_class_of_probability_zero(kernels):
    logits = np.array([[1.0, 2.0], [-np.inf, -np.inf], [1.0, 3.0]], np.float32)
    loss, dlogits = _forward(kernels, logits, [0, 2], 0.0)
    np.testing.assert_allclose(loss, (np.log(2) + np.log1p(np.exp(-1))) / 2, rtol=1e-6)
    np.testing.assert_array_equal(dlogits[1], 0)
    assert np.isinf(_forward(kernels, logits, [0, 2], 0.1)[0])


@pytest.mark.parametrize("kernels", BACKENDS)
@pytest.mark.parametrize("label", [-1, 3, 2**33, -(2**63)])
def test_a_label_out_of_range_makes_its_gradient_and_the_loss_nan(kernels, label):
    logits = np.random.default_rng(0).standard_normal((3, 2))
    loss, dlogits = _forward(kernels, logits, [1, label], 0.1)
    assert np.isnan(loss) and np.isnan(dlogits[:, 1]).all() and np.isfinite(dlogits[:, 0]).all()


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("kernels", BACKENDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_logit_that_is_not_finite_shows_in_the_loss(kernels, value):
    logits = np.zeros((3, 2), np.float32)
    logits[1, 1] = value
    assert np.isnan(_forward(kernels, logits, [0, 0], 0.0)[0])


@pytest.mark.parametrize("classes, batch", [(1, 1), (3, 1), (5, 33), (4, 150), (40, 6), (17, 70)])
def test_every_sharing_out_of_classes_and_samples(classes, batch):
    random = np.random.default_rng(classes)
    logits, labels = random.standard_normal((classes, batch)), random.integers(0, classes, batch)
    loss, dlogits = _forward(cross_entropy, logits, labels, 0.1)
    np.testing.assert_allclose(loss, reference.cross_entropy_forward(logits.T, labels, 0.1), rtol=1e-13)
    np.testing.assert_allclose(dlogits.T, reference.cross_entropy_backward(logits.T, labels, 0.1), atol=1e-15)
    again = _forward(cross_entropy, logits, labels, 0.1)
    np.testing.assert_array_equal(again[1], dlogits)
    assert again[0] == loss


def test_version_1_finds_the_same():
    random = np.random.default_rng(1)
    logits, labels = random.standard_normal((7, 10)), random.integers(0, 7, 10)
    loss, want = _forward(cross_entropy, logits, labels, 0.1)
    probabilities, losses, dlogits = np.empty_like(logits), np.empty(10), np.empty_like(logits)
    launch.elements(cross_entropy.forward_v1, 10, logits, labels, probabilities, losses, 7, 10, 0.1)
    sizes = (dlogits.size, 7, 10)
    launch.elements(cross_entropy.backward_v1, dlogits.size, probabilities, labels, dlogits, *sizes, 0.1, 1 / 10)
    np.testing.assert_allclose(losses.mean(), loss, rtol=1e-14)
    np.testing.assert_allclose(dlogits, want, atol=1e-15)


def test_labels_on_a_device_are_not_read_back():
    logits = np.zeros((2, 3), np.float32)
    on_device = Tensor(logits, device="simulator", requires_grad=True)
    assert np.isnan(F.cross_entropy(on_device, Tensor(np.array([0, 7]), device="simulator")).item())
    for host in (on_device, Tensor(logits)):
        with pytest.raises(ValueError, match="got 7 at index 1"):
            F.cross_entropy(host, np.array([0, 7]))
    with pytest.raises(ValueError, match="got 7 at index 1"):
        F.cross_entropy(Tensor(logits), Tensor(np.array([0, 7]), device="simulator"))
