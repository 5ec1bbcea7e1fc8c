"""How exactly contractions of float32 are computed: a permission to round their operands, given by the user.

    sccengine.set_matmul_precision("high")

"highest"   float32 throughout. The default
"high"      operands rounded to TF32 (8 bits of exponent, 11 of significand), products added up in float32
"medium"    operands rounded to bf16 (8 bits of exponent, 8 of significand), products added up in float32

It concerns ``F.scc``, ``F.linear`` and ``F.conv2d`` with a 1x1 kernel, forward and backward, where the device has
tensor cores for it (compute capability 8.0 or higher); everything else, CPUs and float64 included, computes in full
precision whatever is set. The names are those of ``torch.set_float32_matmul_precision``.

The setting is the process's, for all its threads. An operator reads it once, when it runs forward, and its backward
keeps to what it read; a captured step refuses to be replayed under another one.
"""

from __future__ import annotations

PRECISIONS = ("highest", "high", "medium")

_current = {"precision": "highest"}


def set_matmul_precision(precision):
    """Set how exactly float32 contractions are computed from now on; ValueError for a name not in PRECISIONS."""
    if precision not in PRECISIONS:
        raise ValueError(f"matmul precision must be one of {', '.join(map(repr, PRECISIONS))}, got {precision!r}")
    _current["precision"] = precision


def get_matmul_precision():
    """The precision that was set last: "highest", "high" or "medium"."""
    return _current["precision"]
