"""What a contraction on tensor cores makes of NaN and infinities, in the simulator and on a GPU."""

import numpy as np

from sccengine.windows import ChannelWindows


def check(variant, forward, to_device, to_host, infinities=True):
    """`forward` is that of scc_tensor.py; the other two move arrays. Without `infinities` only NaN is looked at."""
    windows = ChannelWindows.dense(4, 3)
    random = np.random.default_rng(0)
    x, weight = random.standard_normal((4, 8)), abs(random.standard_normal((3, 4))) + 0.1
    # Nothing is left of some weights when they are rounded, and such a nothing times infinity must not make a NaN.
    weight[0] = 0.5
    x[1, 2], x[2, 5], x[3, 6] = np.nan, np.inf, -np.inf
    x, weight, bias = (to_device(each.astype(np.float32)) for each in (x, weight, np.ones(3)))
    for relu in (False, True):
        y = to_device(np.zeros((3, 8), np.float32))
        forward(x, weight, bias, y, windows, relu, variant)
        y = to_host(y)
        assert np.isnan(y[:, 2]).all()
        assert np.isfinite(np.delete(y, [2, 5, 6], axis=1)).all()
        if infinities:
            assert (y[:, 5] == np.inf).all()
            assert (y[:, 6] == (0 if relu else -np.inf)).all()
