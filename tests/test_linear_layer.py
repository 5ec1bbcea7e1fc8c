"""nn.Linear as a layer."""

import numpy as np
import pytest

from sccengine import nn


def test_shapes_keys_and_values():
    layer = nn.Linear(3, 5)
    assert {name: array.shape for name, array in layer.state_dict().items()} == {"weight": (5, 3), "bias": (5,)}
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    want = x @ layer.weight.numpy().T + layer.bias.numpy()
    np.testing.assert_allclose(layer(x).numpy(), want, atol=1e-6)
    assert nn.Linear(3, 5, bias=False).bias is None
    assert repr(nn.Linear(3, 5, bias=False)) == "Linear(in_features=3, out_features=5, bias=False)"


def test_bad_settings():
    with pytest.raises(ValueError, match="Linear: in_features must be at least 1, got 0"):
        nn.Linear(0, 5)
    with pytest.raises(TypeError, match="Linear: out_features must be a whole number, got '5'"):
        nn.Linear(3, "5")
