"""Softmax cross-entropy: values, gradients, labels of every kind, bad labels, the layer."""

import numpy as np
import pytest

import sccengine.functional as F
from sccengine import nn
from sccengine.autograd import Tensor
from sccengine.gradcheck import check_gradients
from tests.checks import cross_entropy as checks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", checks.CASES, ids=str)
def test_matches_reference(case, dtype):
    checks.check("cpu", case, dtype)


LOGITS = np.random.default_rng(0).standard_normal((4, 5))
LABELS = np.array([0, 4, 2, 2])


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_gradcheck(label_smoothing):
    check_gradients(lambda logits: F.cross_entropy(logits, LABELS, label_smoothing), [LOGITS])


def test_uniform_logits_cost_the_logarithm_of_the_classes():
    loss = F.cross_entropy(np.zeros((3, 10), np.float32), [1, 2, 3])
    assert loss.shape == ()
    assert loss.item() == pytest.approx(np.log(10), rel=1e-6)


@pytest.mark.parametrize(
    "labels",
    [LABELS.astype(np.uint8), LABELS.astype(np.int32), list(LABELS), Tensor(LABELS), np.repeat(LABELS, 2)[::2]],
)
def test_labels_of_every_kind(labels):
    assert F.cross_entropy(LOGITS, labels).item() == F.cross_entropy(LOGITS, LABELS).item()


def test_gradient_passes_through_a_scaled_loss():
    logits = Tensor(LOGITS, requires_grad=True)
    F.cross_entropy(logits, LABELS).backward(Tensor(np.array(3.0)))
    once = Tensor(LOGITS, requires_grad=True)
    F.cross_entropy(once, LABELS).backward()
    np.testing.assert_allclose(logits.grad.numpy(), 3 * once.grad.numpy(), rtol=1e-14)


@pytest.mark.parametrize(
    "logits, labels, settings, error, message",
    [
        (LOGITS, [0, 1, 5, -1], {}, ValueError, "labels must be at least 0 and below 5, got 5 at index 2"),
        (LOGITS, [0, -1, 9, 1], {}, ValueError, "got -1 at index 1"),
        (LOGITS, [0, 1], {}, ValueError, r"labels must have shape \(4,\) for logits of shape \(4, 5\), got \(2,\)"),
        (LOGITS, LABELS[:, None], {}, ValueError, r"labels must have shape \(4,\) .* got \(4, 1\)"),
        (LOGITS, LABELS.astype(float), {}, TypeError, "labels must be integers .* got dtype float64"),
        (LOGITS, LABELS > 1, {}, TypeError, "labels must be integers .* got dtype bool"),
        (LOGITS[0], LABELS, {}, ValueError, r"cross_entropy: input must be \(N, O\), got shape \(5,\)"),
        (LOGITS, LABELS, {"label_smoothing": 1.0}, ValueError, "label_smoothing must be .* below 1, got 1.0"),
        (LOGITS, LABELS, {"label_smoothing": None}, TypeError, "label_smoothing must be a number, got None"),
    ],
)
def test_bad_inputs(logits, labels, settings, error, message):
    with pytest.raises(error, match=message):
        F.cross_entropy(logits, labels, **settings)


def test_layer():
    layer = nn.CrossEntropyLoss(label_smoothing=0.1)
    assert layer(LOGITS, LABELS).item() == F.cross_entropy(LOGITS, LABELS, 0.1).item()
    assert repr(layer) == "CrossEntropyLoss(label_smoothing=0.1)"
    with pytest.raises(ValueError, match="CrossEntropyLoss: label_smoothing must be"):
        nn.CrossEntropyLoss(-0.1)
