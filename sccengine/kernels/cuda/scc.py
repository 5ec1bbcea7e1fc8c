"""The channel-window contraction on CUDA: SCC, and with other tables of starts every 1x1 convolution and linear.

    y[f,m] = bias[f] + sum_{k<K} weight[f,k] * x[(start[f] + k) mod C, m]

x (C, M), weight (O, K), bias (O,) or None, y (O, M), with M = H*W*N, all C-contiguous. The kernels are in
scc_stack.py (windows gathered first), scc_direct.py (one thread per element) and scc_tiles.py (filters in tiles).
"""

from functools import partial

from sccengine.kernels.cuda import scc_direct, scc_stack, scc_tiles
from sccengine.kernels.variant import Variant

DEFAULT = "tiles"

VARIANTS = {
    variant.name: variant
    for variant in (
        Variant(
            "channel_stack",
            "gathers every filter's window, then contracts: plain operands for a copy of O*K rows",
            workspace="O*K*M",
        ),
        Variant(
            "cyclic_stack",
            "gathers each distinct window once, then contracts: D*K rows copied instead of O*K",
            workspace="D*K*M",
        ),
        Variant(
            "direct_output_centric",
            "no copy; in the backward each dy adds to all it has influenced, with atomics",
            deterministic=False,
        ),
        Variant(
            "direct_input_centric",
            "no copy; each dx gathers from the filters that cover it, each dweight reduces its rows",
        ),
        Variant(
            "tiles",
            "filters sorted by start, in tiles that read the union of their windows once into shared memory",
            workspace="at most 64*O*K, for dweight",
        ),
    )
}


_FORWARD = {
    "channel_stack": partial(scc_stack.forward, distinct=False),
    "cyclic_stack": partial(scc_stack.forward, distinct=True),
    "direct_output_centric": scc_direct.forward,
    "direct_input_centric": scc_direct.forward,
    "tiles": scc_tiles.forward,
}
_BACKWARD_INPUT = {
    "channel_stack": partial(scc_stack.backward_input, distinct=False),
    "cyclic_stack": partial(scc_stack.backward_input, distinct=True),
    "direct_output_centric": scc_direct.scatter_input,
    "direct_input_centric": scc_direct.gather_input,
    "tiles": scc_tiles.backward_input,
}
_BACKWARD_WEIGHT = {
    "channel_stack": partial(scc_stack.backward_weight, distinct=False),
    "cyclic_stack": partial(scc_stack.backward_weight, distinct=True),
    "direct_output_centric": scc_direct.scatter_weight,
    "direct_input_centric": scc_direct.reduce_weight,
    "tiles": scc_tiles.backward_weight,
}


def forward(x, weight, bias, y, windows, variant=DEFAULT):
    """y (O, M) from x (C, M), weight (O, K) and bias (O,) or None; windows is a ChannelWindows."""
    _FORWARD[variant](x, weight, bias, y, windows)


def backward_input(dy, weight, dx, windows, variant=DEFAULT):
    """dx (C, M) from dy (O, M) and weight (O, K)."""
    _BACKWARD_INPUT[variant](dy, weight, dx, windows)


def backward_weight(dy, x, dweight, windows, variant=DEFAULT):
    """dweight (O, K) from dy (O, M) and x (C, M)."""
    _BACKWARD_WEIGHT[variant](dy, x, dweight, windows)
