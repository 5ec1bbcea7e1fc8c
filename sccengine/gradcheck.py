"""Gradients checked against central differences, and the one table of tolerances that every comparison uses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sccengine import backend
from sccengine.autograd import Tensor, no_grad


@dataclass(frozen=True)
class Tolerance:
    """|got - want| <= relative * max|want| + absolute, for every element."""

    relative: float
    absolute: float


TOLERANCES = {
    # Sums of up to a few thousand float32 products, in another order than the oracle's: a few hundred half-ulps
    # (6e-8) of the largest element; the absolute part covers results that cancel to zero.
    "float32": Tolerance(relative=2e-5, absolute=1e-5),
    # The same in float64, whose half-ulp is 1.1e-16.
    "float64": Tolerance(relative=1e-12, absolute=1e-13),
    # TF32 keeps 11 bits of an operand: rounded, it is off by at most 2^-11 = 4.9e-4 of itself, and a product of two by
    # twice that. A result of one term may be off by as much; in longer sums errors cancel as their terms do.
    "tf32": Tolerance(relative=1e-3, absolute=1e-5),
    # The same for bf16, which keeps 8 bits: 2^-8 = 3.9e-3 an operand.
    "bf16": Tolerance(relative=1e-2, absolute=1e-4),
    # Central differences with step h = 1e-6 in float64: truncation h^2 = 1e-12, cancellation 1e-16 / h = 1e-10,
    # times the size of the sums involved.
    "gradcheck": Tolerance(relative=1e-6, absolute=1e-7),
}

_STEP = 1e-6
_FULL = 256  # inputs of up to so many elements are checked element by element, larger ones along random directions
_DIRECTIONS = 8


def assert_close(name, got, want, tolerance):
    """Raise AssertionError, naming the worst element, unless ``got`` matches ``want`` within a tolerance.

    ``tolerance`` is a key of TOLERANCES (such as a dtype's name) or a Tolerance. Shapes must be equal; a NaN or an
    infinity in either is a difference. Returns the largest difference as a share of what is allowed.
    """
    tolerance = tolerance if isinstance(tolerance, Tolerance) else TOLERANCES[str(tolerance)]
    got = np.asarray(got, dtype=np.float64)
    want = np.asarray(want, dtype=np.float64)
    if got.shape != want.shape:
        raise AssertionError(f"{name}: shape {got.shape}, expected {want.shape}")
    if not got.size:
        return 0.0
    bound = tolerance.relative * np.abs(want).max() + tolerance.absolute
    error = np.abs(got - want)
    if not (error <= bound).all():
        worst = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error)), error.shape)
        worst = tuple(int(i) for i in worst)
        raise AssertionError(
            f"{name}: {float(got[worst])} at {worst}, expected {float(want[worst])} "
            f"(difference {error[worst]:.3g}, allowed {bound:.3g})"
        )
    return float(error.max() / bound) if bound else 0.0


def check_gradients(fn, inputs, *, seed=0, tolerance="gradcheck"):
    """Compare the gradients of ``fn`` with central differences.

    ``fn`` takes Tensors and returns one Tensor; ``inputs`` are float64 arrays or Tensors, and every one of them is
    checked: element by element where it has up to 256 elements, else along eight random directions. The output is
    contracted with one random gradient. ``fn`` must be deterministic. Returns the largest difference as a share of what
    the tolerance allows.

    Raises TypeError for inputs that are not float64 (in lower precision the differences are noise), and
    AssertionError naming the input and the element where a gradient is wrong.
    """
    values = [np.array(x.numpy() if isinstance(x, Tensor) else x, copy=True) for x in inputs]
    for position, value in enumerate(values):
        if value.dtype != np.float64:
            raise TypeError(f"check_gradients needs float64 inputs, input {position} is {value.dtype}")
    device = inputs[0].device if isinstance(inputs[0], Tensor) else None
    generator = np.random.Generator(np.random.Philox(seed))

    tensors = [Tensor(value.copy(), requires_grad=True, device=device) for value in values]
    output = fn(*tensors)
    gradient = generator.standard_normal(output.shape)
    output.backward(Tensor(gradient, device=output.device))

    def directional(position, direction):
        def evaluate(step):
            moved = [v + step * direction if i == position else v for i, v in enumerate(values)]
            with no_grad():
                result = fn(*(Tensor(v.copy(), device=device) for v in moved))
            return float((backend.to_host(result.array) * gradient).sum())

        return (evaluate(_STEP) - evaluate(-_STEP)) / (2 * _STEP)

    largest = 0.0
    for position, (tensor, value) in enumerate(zip(tensors, values)):
        if tensor.grad is None:
            raise AssertionError(f"input {position} got no gradient")
        analytic = tensor.grad.numpy()
        if value.size <= _FULL:
            numeric = np.empty_like(value)
            for index in np.ndindex(value.shape):
                direction = np.zeros_like(value)
                direction[index] = 1
                numeric[index] = directional(position, direction)
        else:
            directions = generator.standard_normal((_DIRECTIONS, *value.shape)) / np.sqrt(value.size)
            numeric = np.array([directional(position, d) for d in directions])
            analytic = np.array([(analytic * d).sum() for d in directions])
        largest = max(largest, assert_close(f"gradient of input {position}", analytic, numeric, tolerance))
    return largest
