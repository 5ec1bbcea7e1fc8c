"""The triples (filter, tap, channel) that kernels really touch, found by asking the kernels.

The contraction is linear in each operand. So one operand is made one-hot, a column for each channel or filter, and the
other holds the codes of what it stands for, in whole numbers that the variant computes with exactly:

    forward           x = one-hot channels, weight[f, k] = code(f, k)     y[f, c] is the code of what joins them
    backward_input    dy = one-hot filters, weight[f, k] = code(f, k)     dx[c, f] likewise
    backward_weight   x = one-hot channels, dy[f, c] = code(f, c)         dweight[f, k] is the code of its operands

A pass with ones for codes comes first: its result says how many products were added, and must be 0 or 1. Codes too
large for the variant's precision are sent digit by digit. That the kernels do the same to operands that are not one-hot
is then tried with random whole numbers (`exact_results`), whose results must be exact.
"""

from __future__ import annotations

import numpy as np

from sccengine import backend
from sccengine.tuning import LAUNCHERS

# Sums of whole numbers below 2**bits are exact.
_BITS = {"float64": 53, "float32": 24}
# Elements of the largest array that a probe lets a baseline gather (O * K * columns).
_GATHERED = 1 << 23
_DRAWS = 8
# Columns of a problem of random numbers, and the fewest of any; and those of an image alone, which may go another way.
_COLUMNS, _LEAST = 37, 9
_FEW = 5


class Fault(Exception):
    """What a kernel does that no set of triples could be."""


class Contraction:
    """The launchers of one variant on windows, a launch for each gradient, with NumPy arrays in and out.

    answers    which launchers `exact_results` tries, on so many columns:
    drawn
    least      columns of a launch: zeros are added to fewer
    columns    one-hot columns of a launch, at most
    launches   how often a launcher has been called
    """

    answers = LAUNCHERS
    drawn, least = _COLUMNS, _LEAST
    bias_gradient = None

    def __init__(self, windows, variant, dtype, device):
        self.windows, self.dtype, self.device = windows, np.dtype(dtype), device
        self.kernels = backend.kernels_for(self._there(np.zeros(1))).scc
        self.variant = self.kernels.VARIANTS[variant]
        self.bits = min(_BITS[self.dtype.name], self.variant.operand_bits)
        self.columns = max(self.least, _GATHERED // (windows.out_channels * windows.width))
        self.launches = 0

    def forward(self, x, weight, bias=None):
        """y (O, M) from x (C, M)."""
        operands = [self._there(array) for array in (x, weight)]
        bias = None if bias is None else self._there(bias)
        return self._result(self.kernels.forward, operands, bias, (self.windows.out_channels, x.shape[1]))

    def backward_input(self, dy, weight):
        """dx (C, M) from dy (O, M)."""
        operands = [self._there(array) for array in (dy, weight)]
        return self._result(self.kernels.backward_input, operands, False, (self.windows.in_channels, dy.shape[1]))

    def backward_weight(self, dy, x):
        """dweight (O, K)."""
        operands = [self._there(array) for array in (dy, x)]
        shape = self.windows.out_channels, self.windows.width
        return self._result(self.kernels.backward_weight, operands, False, shape)

    def _all(self, dy, x, weight, with_input):
        """dx, dweight and dbias by the launcher that layers call."""
        dy, x, weight = (self._there(array) for array in (dy, x, weight))
        shapes = x.shape if with_input else None, weight.shape, dy.shape[:1]
        dx, dweight, dbias = (None if shape is None else backend.filled(shape, np.nan, like=dy) for shape in shapes)
        name = self.variant.name
        self.kernels.backward(dy, x, weight, dx, dweight, dbias, self.windows, name if with_input else None, name)
        self.launches += 1
        gradients = (None if array is None else backend.to_host(array).astype(np.float64) for array in (dx, dweight))
        self.bias_gradient = backend.to_host(dbias).astype(np.float64)
        return tuple(gradients)

    def _there(self, array):
        return backend.to_device(np.ascontiguousarray(array, self.dtype), self.device)

    def _result(self, launcher, operands, bias, shape):
        # Filled with what no right answer is, so that an element that is left out is seen.
        out = backend.filled(shape, np.nan, like=operands[0])
        extra = () if bias is False else (bias,)
        launcher(*operands, *extra, out, self.windows, self.variant.name)
        self.launches += 1
        return backend.to_host(out).astype(np.float64)


class AllGradients(Contraction):
    """The same with all gradients in one call, as in training."""

    answers = ("backward_input", "backward_weight")

    def backward_input(self, dy, weight):
        return self._all(dy, np.zeros((self.windows.in_channels, dy.shape[1])), weight, True)[0]

    def backward_weight(self, dy, x):
        return self._all(dy, x, np.zeros((self.windows.out_channels, self.windows.width)), True)[1]


class WeightGradients(Contraction):
    """The same without the input's gradient, as in a first layer."""

    answers = ("backward_weight",)

    def backward_weight(self, dy, x):
        return self._all(dy, x, np.zeros((self.windows.out_channels, self.windows.width)), False)[1]


class FewColumns(Contraction):
    """The same with few columns in a launch, as in a linear layer or in the last layers for one image."""

    answers = ("forward",)
    drawn, least = _FEW, 1

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.columns = _FEW


def forward_triples(run):
    """Codes of the triples that the forward launcher touches. Raises Fault."""
    windows = run.windows
    codes = np.arange(windows.out_channels * windows.width).reshape(windows.out_channels, windows.width)
    joined = _decoded(run, codes, lambda part: _side_by_side(run, windows.in_channels, run.forward, part))
    filters, channels = np.nonzero(joined >= 0)
    taps = joined[filters, channels]
    _refuse_foreign(taps // windows.width, filters, "the weight of")
    return np.sort(taps * windows.in_channels + channels)


def input_triples(run):
    """The same of the input gradient's."""
    windows = run.windows
    codes = np.arange(windows.out_channels * windows.width).reshape(windows.out_channels, windows.width)
    joined = _decoded(run, codes, lambda part: _side_by_side(run, windows.out_channels, run.backward_input, part))
    channels, filters = np.nonzero(joined >= 0)
    taps = joined[channels, filters]
    _refuse_foreign(taps // windows.width, filters, "the weight of")
    return np.sort(taps * windows.in_channels + channels)


def weight_triples(run):
    """The same of the weight gradient's."""
    windows = run.windows
    shape = windows.out_channels, windows.in_channels
    joined = _decoded(run, np.arange(shape[0] * shape[1]).reshape(shape), lambda part: _summed(run, part))
    filters, taps = np.nonzero(joined >= 0)
    pairs = joined[filters, taps]
    _refuse_foreign(pairs // windows.in_channels, filters, "the gradient of")
    return np.sort((filters * windows.width + taps) * windows.in_channels + pairs % windows.in_channels)


def exact_results(run, table):
    """A sentence on the first of several problems of random whole numbers that a launcher does not solve exactly, or
    None. table (O, K): the channels of the definition. A kernel that adds any other products in any of them passes
    with a chance below 2**-32."""
    windows = run.windows
    for draw in range(_DRAWS):
        random = np.random.Generator(np.random.Philox(draw))
        numbers = [random.integers(-8, 9, shape).astype(np.float64) for shape in _shapes(windows, run.drawn)]
        x, dy, weight, bias = numbers
        dense = np.zeros((windows.out_channels, windows.in_channels))
        np.put_along_axis(dense, table, weight, axis=1)
        products = dy @ x.T
        problems = {
            "forward": ((x, weight, bias), dense @ x + bias[:, None]),
            "backward_input": ((dy, weight), dense.T @ dy),
            "backward_weight": ((dy, x), np.take_along_axis(products, table, axis=1)),
        }
        solved = [(name, getattr(run, name)(*problems[name][0]), problems[name][1]) for name in run.answers]
        if run.bias_gradient is not None:
            solved.append(("dbias", run.bias_gradient, dy.sum(axis=1)))
        for name, found, wanted in solved:
            if not np.array_equal(found, wanted):
                at = tuple(int(i) for i in np.argwhere(~(found == wanted))[0])
                return f"{name} is {found[at]:g} at {at} of a problem in whole numbers, {wanted[at]:g} is exact"
    return None


def _shapes(windows, columns):
    filters, channels = windows.out_channels, windows.in_channels
    return (channels, columns), (filters, columns), (filters, windows.width), (filters,)


def _decoded(run, codes, probe):
    """What `probe` makes of the codes, sent in digits: -1 where nothing was added."""
    count = probe(np.ones_like(codes))
    if len(odd := np.argwhere((count != 0) & (count != 1))):
        row, column = (int(i) for i in odd[0])
        raise Fault(f"row {row}, column {column} of the result is {count[row, column]:g} products instead of 0 or 1")
    total = np.zeros(count.shape, np.int64)
    for shift in range(0, int(codes.max()).bit_length(), run.bits):
        digits = (codes >> shift) & ((1 << run.bits) - 1)
        total += probe(digits).astype(np.int64) << shift
    return np.where(count == 1, total, -1)


def _side_by_side(run, columns, launcher, weight):
    """The launcher on one-hot columns, some at a time."""
    hot, parts = np.eye(columns), []
    for at in range(0, columns, run.columns):
        part = hot[:, at : at + run.columns]
        missing = max(0, run.least - part.shape[1])
        parts.append(launcher(np.pad(part, ((0, 0), (0, missing))), weight)[:, : part.shape[1]])
    return np.concatenate(parts, axis=1)


def _summed(run, dy):
    """The weight gradient over one-hot channels, some at a time."""
    hot = np.eye(run.windows.in_channels)
    stretches = [slice(at, at + run.columns) for at in range(0, len(hot), run.columns)]
    return sum(run.backward_weight(dy[:, part], hot[:, part]) for part in stretches)


def _refuse_foreign(found, filters, what):
    if len(odd := np.flatnonzero(found != filters)):
        raise Fault(f"filter {filters[odd[0]]} is given {what} filter {found[odd[0]]}")
