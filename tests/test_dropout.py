"""Dropout: values by key, gradients, the rate, the engine's seed, bad inputs, the layer."""

import numpy as np
import pytest

import sccengine.functional as F
from sccengine import backend, nn
from sccengine.autograd import Tensor
from sccengine.gradcheck import check_gradients
from tests.checks import dropout as checks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", checks.CASES, ids=str)
def test_matches_reference(case, dtype):
    checks.check("cpu", case, dtype)


def test_gradcheck():
    check_gradients(lambda x: F.dropout(x, 0.4, key=7), [np.random.default_rng(0).standard_normal((3, 2, 4, 2))])


def test_rate_and_scale():
    y = F.dropout(np.ones((64, 1000), np.float32), 0.3, key=1).numpy()
    kept = y != 0
    assert abs(kept.mean() - 0.7) < 5 * np.sqrt(0.3 * 0.7 / y.size)
    np.testing.assert_array_equal(y[kept], np.float32(1 / 0.7))


def test_the_same_seed_gives_the_same_masks_and_each_call_its_own():
    x = np.ones((4, 50), np.float32)
    backend.set_seed(3)
    first = [F.dropout(x).numpy() for _ in range(2)]
    backend.set_seed(3)
    again = [F.dropout(x).numpy() for _ in range(2)]
    np.testing.assert_array_equal(first, again)
    assert (first[0] != first[1]).any()


@pytest.mark.parametrize("settings", [{"training": False}, {"p": 0.0}])
def test_identity_draws_no_key(settings):
    x = Tensor(np.ones((2, 3), np.float32))
    before = backend.random_state()
    assert F.dropout(x, **settings) is x
    assert backend.random_state() == before


@pytest.mark.parametrize(
    "settings, error, message",
    [
        ({"p": 1.0}, ValueError, "dropout: p must be at least 0 and below 1, got 1.0"),
        ({"p": -0.1}, ValueError, "dropout: p must be at least 0 and below 1, got -0.1"),
        ({"p": float("nan")}, ValueError, "dropout: p must be at least 0 and below 1, got nan"),
        ({"p": "half"}, TypeError, "dropout: p must be a number, got 'half'"),
        ({"key": 2**64}, ValueError, r"dropout: key must be below 2\*\*64, got 18446744073709551616"),
        ({"key": 1.5}, TypeError, "dropout: key must be a whole number, got 1.5"),
    ],
)
def test_bad_inputs(settings, error, message):
    with pytest.raises(error, match=message):
        F.dropout(np.zeros((2, 3), np.float32), **settings)


def test_layer_drops_in_training_only():
    layer = nn.Dropout(0.5)
    x = Tensor(np.ones((4, 100), np.float32))
    assert (layer(x).numpy() == 0).any()
    assert layer.eval()(x) is x
    assert repr(layer) == "Dropout(p=0.5)"
    with pytest.raises(ValueError, match="Dropout: p must be at least 0 and below 1, got 2"):
        nn.Dropout(2)
