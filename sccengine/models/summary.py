"""What a model costs, layer by layer, seen while one image passes through it.

MACs are multiply-accumulates of convolution, sliding-channel and linear layers for one image; biases, normalisation,
activations and pooling are not counted. One MAC is two floating-point operations: FLOPs = 2 x MACs.

    convolution       O * (C / groups) * kh * kw * Ho * Wo
    sliding-channel   O * K * Ho * Wo
    linear            O * I
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from sccengine import nn
from sccengine.autograd import Tensor
from sccengine.models.mode import device_of_model, evaluation_mode, leaves, watched
from sccengine.models.parts import image_shape

_HEADINGS = ("layer", "type", "output", "cg", "K", "S", "D", "overlap", "parameters", "MACs")


@dataclass(frozen=True)
class Row:
    """One layer. None where it has no such thing: groups cg, window width K, shift S, cycle D, overlap (K - S) / K.

    `note` is what the model says of it where it was not built as asked, for instance narrower than the groups.
    """

    name: str
    type: str
    output_shape: tuple[int, ...]
    groups: int | None
    width: int | None
    shift: int | None
    cycle: int | None
    overlap: float | None
    params: int
    macs: int
    note: str | None


@dataclass(frozen=True)
class Summary:
    """Rows in the order in which the layers ran, and their totals; ``print(summary)`` shows a table, then the notes."""

    input_shape: tuple[int, ...]
    rows: tuple[Row, ...]
    params: int
    macs: int

    def as_dict(self):
        """Plain lists, numbers and strings, ready for JSON."""
        return asdict(self)

    def __str__(self):
        cells = [_HEADINGS, *map(_cells, self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(_HEADINGS))]
        lines = ["  ".join(_aligned(i, text, widths[i]) for i, text in enumerate(row)).rstrip() for row in cells]
        lines.insert(1, "-" * max(map(len, lines)))
        lines.append(lines[1])
        shape = " x ".join(map(str, self.input_shape))
        lines.append(
            f"input {shape}: {self.params:,} parameters, {self.macs:,} MACs an image (= {2 * self.macs:,} FLOPs)"
        )
        lines += [f"{row.name}: {row.note}" for row in self.rows if row.note]
        return "\n".join(lines)


def summarize(model, input_shape):
    """A Summary of `model` for one image of `input_shape` (C, H, W), found by running one image through it.

    The model's mode and state are left as they were. A layer that is used twice has two rows, its parameters counted
    in the first. Raises TypeError or ValueError for a bad `input_shape`, and whatever the model raises for that input.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"summarize: model must be a Module, got {type(model).__name__}")
    shape = image_shape("summarize", input_shape)
    rows, counted = [], set()

    def see(name, module, inputs, output):
        rows.append(_row(name or type(module).__name__, module, output.shape, counted))

    parameter = next(model.parameters(), None)
    image = np.zeros((1, *shape), np.float32 if parameter is None else parameter.dtype)
    with evaluation_mode(model), watched(leaves(model), see):
        model(Tensor(image, device=device_of_model(model)))
    params = sum(math.prod(p.shape) for p in model.parameters())
    return Summary(shape, tuple(rows), params, sum(row.macs for row in rows))


def _row(name, module, output_shape, counted):
    parameters = [p for p in module.parameters() if id(p) not in counted]
    counted.update(map(id, parameters))
    windows = module.windows if isinstance(module, nn.SCC) else None
    return Row(
        name=name,
        type=type(module).__name__,
        output_shape=tuple(output_shape[1:]),
        groups=module.groups if isinstance(module, (nn.Conv2d, nn.SCC)) else None,
        width=windows and windows.width,
        shift=windows and windows.shift,
        cycle=windows and windows.cycle,
        overlap=windows and windows.overlap,
        params=sum(math.prod(p.shape) for p in parameters),
        macs=_macs(module, output_shape),
        note=getattr(module, "note", None),
    )


def _macs(module, output_shape):
    """Every weight is used once an output pixel, so one image costs weights * pixels."""
    if not isinstance(module, (nn.Conv2d, nn.SCC, nn.Linear)):
        return 0
    return math.prod(module.weight.shape) * math.prod(output_shape[2:])


def _cells(row):
    def number(value):
        return "" if value is None else f"{value:,}"

    return (
        row.name,
        row.type,
        " x ".join(map(str, row.output_shape)),
        number(row.groups),
        number(row.width),
        number(row.shift),
        number(row.cycle),
        "" if row.overlap is None else f"{row.overlap:.4g}",
        number(row.params),
        number(row.macs),
    )


def _aligned(column, text, width):
    return text.ljust(width) if column < 3 else text.rjust(width)
