"""One module per operator: what must hold of it on every device. The CPU, simulator and GPU suites walk them all.

Each module has ``CASES``, a list of dicts of plain settings (``"small": True``: cheap enough for the simulator), and
``check(device, case, dtype)``, which runs forward and backward on the device and compares values and all gradients with
the float64 oracles of ``sccengine.reference``.
"""

import importlib
import pkgutil

import numpy as np

from sccengine import backend
from sccengine.autograd import Parameter, Tensor
from sccengine.gradcheck import assert_close


def modules():
    """Every check module, as {stem: module}."""
    return {info.name: importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)}


def generator(case):
    """Random numbers that depend on the case alone."""
    return np.random.default_rng([ord(letter) for letter in repr(sorted(case.items()))])


def compare(device, dtype, operator, inputs, forward, backward, tolerance=None):
    """Run ``operator(*tensors)`` and its backward on ``device`` and compare with float64 oracles.

    inputs    {name: array}: those called weight or bias become Parameters, the others Tensors; all require gradients
    forward   forward(*arrays) -> y
    backward  backward(dy, *arrays) -> one gradient an input
    tolerance a key of gradcheck.TOLERANCES, if not the dtype's
    """
    tolerance = tolerance or dtype
    inputs = {name: np.asarray(array, dtype=dtype) for name, array in inputs.items()}
    tensors = [
        Parameter(array, device=device)
        if name in ("weight", "bias")
        else Tensor(array.copy(order="K"), requires_grad=True, device=device)
        for name, array in inputs.items()
    ]
    y = operator(*tensors)
    assert y.dtype == dtype and y.device == tensors[0].device
    assert_close("y", y.numpy(), forward(*inputs.values()), tolerance)
    assert_batch_last("y", y)
    dy = np.random.default_rng(0).standard_normal(y.shape).astype(dtype)
    y.backward(Tensor(dy, device=device))
    for (name, array), tensor, want in zip(inputs.items(), tensors, backward(dy, *inputs.values()), strict=True):
        assert_close(f"d{name}", tensor.grad.numpy(), want, tolerance)
        assert tensor.grad.dtype == array.dtype
        if isinstance(tensor, Parameter):
            assert tensor.grad.array.flags.c_contiguous, f"d{name} is not row-major"
        else:
            assert_batch_last(f"d{name}", tensor.grad)


def assert_batch_last(name, tensor):
    in_order = backend.rows(tensor.array)
    assert backend.owner(in_order) is backend.owner(tensor.array), f"{name} is not batch-last in memory"
