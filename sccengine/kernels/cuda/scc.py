"""The channel-window contraction on CUDA: SCC, and with other tables of starts every 1x1 convolution and linear.

    y[f,m] = bias[f] + sum_{k<K} weight[f,k] * x[(start[f] + k) mod C, m]

x (C, M), weight (O, K), bias (O,) or None, y (O, M), with M = H*W*N, all C-contiguous. The kernels are in
scc_stack.py (windows gathered first), scc_direct.py (one thread per element) and scc_tiles.py (filters in tiles); for
float32 also in scc_register_tiles.py and scc_register_band.py (sums in registers) and, where set_matmul_precision
allows operands to be rounded, in scc_tensor.py and scc_tensor_band.py (tensor cores).
"""

import math
from functools import lru_cache, partial
from typing import NamedTuple

from sccengine.kernels.cuda import (
    launch,
    rows,
    scc_direct,
    scc_register_band,
    scc_register_tiles,
    scc_stack,
    scc_tensor,
    scc_tensor_band,
    scc_tiles,
)
from sccengine.kernels.cuda import relu as relu_kernels
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
        *(
            Variant(
                name,
                f"tiles of {shape.tile} filters x {shape.columns} columns with their sums in registers",
                workspace="W with the zeros of its tiles; parts of results that are too few for the machine",
                dtypes=("float32",),
            )
            for name, shape in scc_register_tiles.SHAPES.items()
        ),
        *(
            Variant(
                name,
                f"tensor cores, {'bf16' if shape.bf16 else 'TF32'} operands: tiles of {shape.tile} filters x "
                f"{shape.columns} columns",
                workspace="W with the zeros of its tiles; at most 264*O*K, for dweight",
                dtypes=("float32",),
                precision="medium" if shape.bf16 else "high",
                since=(8, 0),
            )
            for name, shape in scc_tensor.SHAPES.items()
        ),
    )
}


class Road(NamedTuple):
    """The launchers of one variant. forward takes `relu` as its last argument where fuses_relu says so."""

    forward: object
    backward_input: object
    backward_weight: object
    fuses_relu: bool = False


_ROADS = {
    "channel_stack": Road(
        partial(scc_stack.forward, distinct=False),
        partial(scc_stack.backward_input, distinct=False),
        partial(scc_stack.backward_weight, distinct=False),
    ),
    "cyclic_stack": Road(
        partial(scc_stack.forward, distinct=True),
        partial(scc_stack.backward_input, distinct=True),
        partial(scc_stack.backward_weight, distinct=True),
    ),
    "direct_output_centric": Road(scc_direct.forward, scc_direct.scatter_input, scc_direct.scatter_weight),
    "direct_input_centric": Road(scc_direct.forward, scc_direct.gather_input, scc_direct.reduce_weight),
    "tiles": Road(scc_tiles.forward, scc_tiles.backward_input, scc_tiles.backward_weight),
    **{
        name: Road(
            partial(scc_register_tiles.forward, variant=name),
            partial(scc_register_tiles.backward_input, variant=name),
            partial(scc_register_band.backward_weight, variant=name),
            fuses_relu=True,
        )
        for name in scc_register_tiles.SHAPES
    },
    **{
        name: Road(
            partial(scc_tensor.forward, variant=name),
            partial(scc_tensor.backward_input, variant=name),
            partial(scc_tensor_band.backward_weight, variant=name),
            fuses_relu=True,
        )
        for name in scc_tensor.SHAPES
    },
}


def choose(purpose, windows, like, precision):
    """The variant for a launcher ("forward" and so on) on rows like those of `like`, (..., M).

    float64: "tiles". float32: of the register tiles, or of the tiles on tensor cores where `precision` allows them and
    the device has them, the one with the least work, which is its multiplications, zeros included, times what one costs
    there, divided by the part of the machine that its blocks fill.
    """
    if like.dtype != "float32":
        return DEFAULT
    has_tensor_cores = precision != "highest" and launch.capability(like) >= (8, 0)
    return _least_work(purpose, windows, like.shape[-1], precision if has_tensor_cores else "highest")


@lru_cache(maxsize=4096)
def _least_work(purpose, windows, columns, precision):
    shapes = scc_register_tiles.SHAPES if precision == "highest" else scc_tensor.SHAPES
    names = [name for name in shapes if VARIANTS[name].precision == precision]
    if purpose == "backward_weight":
        band = scc_register_band if precision == "highest" else scc_tensor_band
        return min(names, key=lambda name: band.work(windows, name, columns))
    tiles = scc_register_tiles if precision == "highest" else scc_tensor
    return min(names, key=lambda name: tiles.work(windows, purpose == "backward_input", name, columns))


def problem(variant, like):
    """None where the device of `like` can run the variant, else why not, as half a sentence."""
    since, found = VARIANTS[variant].since, launch.capability(like)
    if found >= since:
        return None
    return "needs compute capability {}.{} or higher, this GPU has {}.{}".format(*since, *found)


def forward(x, weight, bias, y, windows, variant=DEFAULT, relu=False):
    """y (O, M) from x (C, M), weight (O, K) and bias (O,) or None; windows is a ChannelWindows.

    relu: negative results become 0.
    """
    road = _ROADS[variant]
    if road.fuses_relu:
        road.forward(x, weight, bias, y, windows, relu)
        return
    road.forward(x, weight, bias, y, windows)
    if relu:
        relu_kernels.forward(y, y, math.inf)


def backward_input(dy, weight, dx, windows, variant=DEFAULT):
    """dx (C, M) from dy (O, M) and weight (O, K)."""
    _ROADS[variant].backward_input(dy, weight, dx, windows)


def backward_weight(dy, x, dweight, windows, variant=DEFAULT):
    """dweight (O, K) from dy (O, M) and x (C, M)."""
    _ROADS[variant].backward_weight(dy, x, dweight, windows)


def backward(dy, x, weight, dx, dweight, dbias, windows, input_variant=DEFAULT, weight_variant=DEFAULT):
    """The gradients that are not None, a launch each: dx, dweight, and dbias (O,)."""
    if dx is not None:
        backward_input(dy, weight, dx, windows, input_variant)
    if dweight is not None:
        backward_weight(dy, x, dweight, windows, weight_variant)
    if dbias is not None:
        rows.sum_rows(dy, dbias)
