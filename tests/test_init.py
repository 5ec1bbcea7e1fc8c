"""Initialisers: bounds and spread from the true fan-in, the engine's seed, what they refuse."""

import math

import numpy as np
import pytest

from sccengine import backend, nn
from sccengine.autograd import Parameter
from sccengine.nn import init


def _parameter(*shape):
    return Parameter(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    "layer, fan_in",
    [
        (lambda: nn.SCC(64, 512, groups=4, overlap=0.33), 16),
        (lambda: nn.Conv2d(32, 256, 3, groups=2), 16 * 9),
        (lambda: nn.Conv2d(64, 512, 3, groups=64), 9),
        (lambda: nn.Linear(50, 200), 50),
    ],
)
def test_layers_start_uniform_within_the_root_of_the_fan_in(layer, fan_in):
    layer = layer()
    bound = 1 / math.sqrt(fan_in)
    for values in (layer.weight.numpy(), layer.bias.numpy()):
        assert np.abs(values).max() <= bound * (1 + 1e-6)
        assert np.abs(values).max() > 0.95 * bound
        assert abs(values.mean()) < 5 * bound / math.sqrt(3 * values.size)


@pytest.mark.parametrize(
    "initialise, std",
    [
        (lambda p: init.kaiming_normal_(p, nonlinearity="relu"), math.sqrt(2 / 75)),
        (lambda p: init.kaiming_normal_(p, mode="fan_out", nonlinearity="linear"), math.sqrt(1 / 1000)),
        (lambda p: init.kaiming_uniform_(p), math.sqrt(2 / 75)),
        (lambda p: init.kaiming_uniform_(p, a=math.sqrt(5)), math.sqrt(1 / 3 / 75)),
        (lambda p: init.xavier_normal_(p), math.sqrt(2 / 1075)),
        (lambda p: init.xavier_uniform_(p, gain=2.0), 2 * math.sqrt(2 / 1075)),
        (lambda p: init.normal_(p, std=0.3), 0.3),
        (lambda p: init.uniform_(p, -1, 1), math.sqrt(1 / 3)),
    ],
)
def test_spread(initialise, std):
    parameter = _parameter(40, 3, 5, 5)
    assert initialise(parameter) is parameter
    values = parameter.numpy()
    assert values.std() == pytest.approx(std, rel=0.05)
    assert abs(values.mean()) < 5 * std / math.sqrt(values.size)


def test_constants():
    parameter = _parameter(3)
    assert (init.ones_(parameter).numpy() == 1).all()
    assert (init.zeros_(parameter).numpy() == 0).all()
    assert (init.constant_(parameter, 2.5).numpy() == 2.5).all()


def test_the_seed_decides():
    backend.set_seed(5)
    first, second = nn.Linear(3, 3).weight.numpy().copy(), nn.Linear(3, 3).weight.numpy().copy()
    backend.set_seed(5)
    np.testing.assert_array_equal(nn.Linear(3, 3).weight.numpy(), first)
    assert (first != second).any()
    backend.set_seed(6)
    assert (nn.Linear(3, 3).weight.numpy() != first).any()


def test_an_initialiser_counts_as_a_change():
    parameter = _parameter(2)
    version = parameter.version
    init.ones_(parameter)
    assert parameter.version > version


def test_errors():
    with pytest.raises(ValueError, match=r"fan-in and fan-out need a weight of rank 2 or more, got shape \(3,\)"):
        init.kaiming_uniform_(_parameter(3))
    with pytest.raises(ValueError, match="init: mode must be 'fan_in' or 'fan_out', got 'fan'"):
        init.kaiming_normal_(_parameter(3, 3), mode="fan")
    with pytest.raises(ValueError, match="init: nonlinearity must be one of linear, .* got 'swish'"):
        init.kaiming_normal_(_parameter(3, 3), nonlinearity="swish")
