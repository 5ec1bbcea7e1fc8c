"""Cross-entropy per sample: logits far apart, a class ruled out by -inf."""

import numpy as np
import pytest

from sccengine.kernels.cuda import cross_entropy


def _forward(logits, labels, label_smoothing):
    probabilities, losses = np.empty_like(logits), np.empty(logits.shape[1], logits.dtype)
    cross_entropy.forward(logits, np.array(labels), probabilities, losses, label_smoothing)
    return probabilities, losses


@pytest.mark.parametrize("shift", [-1e30, 0.0, 1e30])
def test_large_logits_neither_overflow_nor_lose_the_loss(shift):
    logits = np.array([[0, 0, 200], [0, 200, 0], [0, 0, 0]], np.float32) + np.float32(shift)
    gap = 0 if shift else 200
    _, losses = _forward(logits, [0, 0, 2], 0.0)
    want = [np.log(3), gap, gap] if gap else [np.log(3)] * 3
    np.testing.assert_allclose(losses, want, rtol=1e-6)


def test_a_class_of_probability_zero():
    logits = np.array([[1.0, 2.0], [-np.inf, -np.inf], [1.0, 3.0]], np.float32)
    probabilities, losses = _forward(logits, [0, 2], 0.0)
    np.testing.assert_allclose(losses, [np.log(2), np.log1p(np.exp(-1))], rtol=1e-6)
    np.testing.assert_array_equal(probabilities[1], 0)
    assert np.isinf(_forward(logits, [0, 2], 0.1)[1]).all()
