"""The fully connected layer: a dense channel window on an image of one pixel.

y[n, o] = bias[o] + sum_i weight[o, i] * x[n, i]
"""

from __future__ import annotations

from sccengine.autograd import as_tensor
from sccengine.functional import checks
from sccengine.functional.scc import ContractionFunction
from sccengine.windows import ChannelWindows


def linear(x, weight, bias=None, *, relu=False):
    """x (N, I) times weight (O, I) plus bias (O,) or None, giving (N, O); with relu, negative results become 0.

    Raises ValueError or TypeError where shapes or dtypes do not fit.
    """
    x, weight = as_tensor(x), as_tensor(weight)
    checks.rank("linear", x, "NI")
    if len(weight.shape) != 2 or weight.shape[1] != x.shape[1] or not weight.shape[0]:
        raise ValueError(
            f"linear: weight must be (O, {x.shape[1]}) for an input of shape {tuple(x.shape)}, "
            f"got shape {tuple(weight.shape)}"
        )
    windows = ChannelWindows.dense(x.shape[1], weight.shape[0])
    return ContractionFunction("linear", windows, relu=relu)(x, weight, bias)
