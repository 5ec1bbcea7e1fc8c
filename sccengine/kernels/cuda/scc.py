"""The channel-window contraction on CUDA: SCC, and with other tables of starts every 1x1 convolution and linear.

    y[f,m] = bias[f] + sum_{k<K} weight[f,k] * x[(start[f] + k) mod C, m]

x (C, M), weight (O, K), bias (O,) or None, y (O, M), with M = H*W*N, all C-contiguous. The kernels are in
scc_stack.py (windows gathered first), scc_direct.py (one thread per element) and scc_tiles.py (filters in tiles); for
float32 also in scc_register_tiles.py and scc_register_band.py (sums in registers) and in scc_tensor.py and
scc_tensor_band.py (tensor cores): operands rounded, where set_matmul_precision allows it, or each the sum of two that
are, which keeps 22 of their 24 bits and has the error of a float32 sum: 1.8e-7 to 2.7e-7 of the norm, measured on an
H200 over sums of 8 to 262144 products, where the register tiles have 0.5e-7 to 6e-7.
"""

import math
from functools import lru_cache, partial

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
from sccengine.kernels.cuda.scc_pack import BF16, TF32, TF32X3
from sccengine.kernels.variant import Launchers, Variant, published_launchers

DEFAULT = "tiles"

# Compute capabilities whose tensor cores multiply TF32 at least six times as fast as other units float32.
FAST_TF32 = ((8, 0), (9, 0), (10, 0), (10, 3))
_OPERANDS = {BF16: "bf16 operands", TF32: "TF32 operands", TF32X3: "each operand the sum of two TF32 numbers"}
_PRECISIONS = {BF16: "medium", TF32: "high", TF32X3: "highest"}
_BITS = {BF16: 8, TF32: 11, TF32X3: 22}

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
                f"tensor cores, {_OPERANDS[shape.operands]}: tiles of {shape.tile} filters x {shape.columns} columns",
                workspace="W with the zeros of its tiles; at most 528*O*K, for dweight",
                dtypes=("float32",),
                precision=_PRECISIONS[shape.operands],
                operand_bits=_BITS[shape.operands],
                since=scc_tensor.SINCE,
            )
            for name, shape in scc_tensor.SHAPES.items()
        ),
    )
}


_LAUNCHERS = {
    **published_launchers(scc_stack, scc_direct),
    "tiles": Launchers(scc_tiles.forward, scc_tiles.backward_input, scc_tiles.backward_weight),
    **{
        name: Launchers(
            partial(scc_register_tiles.forward, variant=name),
            partial(scc_register_tiles.backward_input, variant=name),
            partial(scc_register_band.backward_weight, variant=name),
            fuses_relu=True,
        )
        for name in scc_register_tiles.SHAPES
    },
    **{
        name: Launchers(
            partial(scc_tensor.forward, variant=name),
            partial(scc_tensor.backward_input, variant=name),
            partial(scc_tensor_band.backward_weight, variant=name),
            fuses_relu=True,
            adds_dbias=True,
        )
        for name in scc_tensor.SHAPES
    },
}


def choose(launcher, windows, like, precision):
    """The variant for a launcher ("forward" and so on) on rows like those of `like`, (..., M).

    float64: "tiles". float32: the one that takes an H200 the fewest cycles, by what was measured there, among the tiles
    on tensor cores that keep to `precision` and, if nothing may be rounded, the register tiles. Where tensor cores are
    missing, or not so fast that three products take less time than one in float32: the register tiles only.
    """
    if like.dtype != "float32":
        return DEFAULT
    capability = launch.capability(like)
    if capability < (8, 0):
        precision = "highest"
    return _least_work(launcher, windows, like.shape[-1], precision, capability)


@lru_cache(maxsize=4096)
def _least_work(launcher, windows, columns, precision, capability):
    on_tensor_cores = precision != "highest" or capability in FAST_TF32
    variants = [VARIANTS[name] for name in scc_tensor.SHAPES if on_tensor_cores]
    tensor = [each.name for each in variants if each.precision == precision and each.since <= capability]
    if launcher == "backward_weight":
        # Wherever tensor cores are to be used at all, they were faster.
        names, work = (tensor, scc_tensor_band.work) if tensor else (scc_register_tiles.SHAPES, scc_register_band.work)
        return min(names, key=lambda name: work(windows, name, columns))
    transposed = launcher == "backward_input"
    work = {name: scc_tensor.work(windows, transposed, name, columns) for name in tensor}
    for name in scc_register_tiles.SHAPES:
        if precision == "highest" or scc_register_tiles.splits_of(windows, transposed, name, columns) > 1:
            work[name] = scc_register_tiles.work(windows, transposed, name, columns)
    return min(work, key=work.get)


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
    launchers = _LAUNCHERS[variant]
    if launchers.fuses_relu:
        launchers.forward(x, weight, bias, y, windows, relu)
        return
    launchers.forward(x, weight, bias, y, windows)
    if relu:
        relu_kernels.forward(y, y, math.inf)


def backward_input(dy, weight, dx, windows, variant=DEFAULT):
    """dx (C, M) from dy (O, M) and weight (O, K)."""
    _LAUNCHERS[variant].backward_input(dy, weight, dx, windows)


def backward_weight(dy, x, dweight, windows, variant=DEFAULT):
    """dweight (O, K) from dy (O, M) and x (C, M)."""
    _LAUNCHERS[variant].backward_weight(dy, x, dweight, windows)


def backward(dy, x, weight, dx, dweight, dbias, windows, input_variant=DEFAULT, weight_variant=DEFAULT):
    """The gradients that are not None: dx, dweight, and dbias (O,)."""
    if dx is not None:
        backward_input(dy, weight, dx, windows, input_variant)
    if dweight is not None and dbias is not None and _LAUNCHERS[weight_variant].adds_dbias:
        _LAUNCHERS[weight_variant].backward_weight(dy, x, dweight, windows, dbias=dbias)
        return
    if dweight is not None:
        backward_weight(dy, x, dweight, windows, weight_variant)
    if dbias is not None:
        rows.sum_rows(dy, dbias)
