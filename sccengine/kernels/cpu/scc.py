"""The channel-window contraction on the CPU: launchers and variants.

    y[f] = bias[f] + sum_{k < K} weight[f, k] * x[(start[f] + k) mod C]      on rows of M = H * W * N numbers

serves sliding-channel, pointwise, grouped pointwise and linear layers alike: only the windows differ.
"""

import math

from sccengine.kernels.cpu import relu as relu_kernels
from sccengine.kernels.cpu import rows, scc_direct, scc_stack, scc_tiles, scc_tiles_backward
from sccengine.kernels.variant import Launchers, Variant, published_launchers

DEFAULT = "tiles"

# BLAS shares sums out by its number of threads, so bits depend on that where it is used.
VARIANTS = {
    variant.name: variant
    for variant in (
        Variant(
            "channel_stack",
            "gathers every filter's window, then contracts it with BLAS: plain, and a copy of O*K rows",
            deterministic=False,
            workspace="O*K*M",
        ),
        Variant(
            "cyclic_stack",
            "gathers each distinct window once, then contracts with BLAS: D*K rows copied instead of O*K",
            deterministic=False,
            workspace="D*K*M",
        ),
        Variant(
            "direct_output_centric",
            "no copy; in the backward each output row hands its gradient to all that it read",
        ),
        Variant(
            "direct_input_centric",
            "no copy; each row of dx gathers from the filters that cover it, each dweight reduces its rows",
        ),
        Variant(
            "tiles",
            "filters sorted by start, in register tiles that read the union of their windows once; forward of up to 8 "
            "columns dot products",
            workspace="one strip of columns a thread, and W's nonzeros; of up to 8 columns a copy of x",
        ),
    )
}

_LAUNCHERS = {
    **published_launchers(scc_stack, scc_direct),
    "tiles": Launchers(
        scc_tiles.contract, scc_tiles.contract_transposed, scc_tiles_backward.backward_weight, fuses_relu=True
    ),
}


def choose(launcher, windows, like, precision):
    """The variant for a launcher ("forward" and so on) on rows like those of `like`: one for all, here."""
    return DEFAULT


def problem(variant, like):
    """None where the device of `like` can run the variant, else why not: a CPU can run all."""
    return None


def forward(x, weight, bias, y, windows, variant=DEFAULT, relu=False):
    """y (O, M) from x (C, M), weight (O, K) and bias (O,) or None; windows is a ChannelWindows.

    relu: negative results become 0.
    """
    launchers = _LAUNCHERS[variant]
    if launchers.fuses_relu:
        launchers.forward(x, weight, bias, y, windows, relu)
        return
    launchers.forward(x, weight, bias, y, windows)
    if relu:
        relu_kernels.forward(y.reshape(-1), y.reshape(-1), math.inf)


def backward_input(dy, weight, dx, windows, variant=DEFAULT):
    """dx (C, M) from dy (O, M) and weight (O, K)."""
    _LAUNCHERS[variant].backward_input(dy, weight, dx, windows)


def backward_weight(dy, x, dweight, windows, variant=DEFAULT):
    """dweight (O, K) from dy (O, M) and x (C, M)."""
    _LAUNCHERS[variant].backward_weight(dy, x, dweight, windows)


def backward(dy, x, weight, dx, dweight, dbias, windows, input_variant=DEFAULT, weight_variant=DEFAULT):
    """The gradients that are not None: dx as by backward_input, dweight as by backward_weight, dbias (O,)."""
    if dweight is not None and weight_variant == "tiles" and (dx is None or input_variant == "tiles"):
        scc_tiles_backward.backward(dy, x, weight, dx, dweight, dbias, windows)
        return
    if dx is not None:
        backward_input(dy, weight, dx, windows, input_variant)
    if dweight is not None:
        backward_weight(dy, x, dweight, windows, weight_variant)
    if dbias is not None:
        rows.sum_rows(dy, dbias)
