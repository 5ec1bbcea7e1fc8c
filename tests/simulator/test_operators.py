"""Every operator's small cases with the CUDA kernels in Numba's simulator, against the float64 oracles."""

import importlib
import os

import numpy as np
import pytest

from tests import checks
from tests.signatures import argument_types

# The random numbers of dropout wrap modulo 2**64, as they should; NumPy warns of it where the GPU does not.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in scalar:RuntimeWarning")

CASES = [
    pytest.param(module, case, dtype, id=f"{stem}-{number}-{dtype}")
    for stem, module in checks.modules().items()
    for number, case in enumerate(module.CASES)
    if case.get("small")
    for dtype in ("float32", "float64")
]


@pytest.fixture
def launches():
    """The pairs (kernel, argument types) of every launch during a test."""
    if os.environ.get("NUMBA_ENABLE_CUDASIM") != "1":
        pytest.skip("needs the simulator")
    from tests.simulator import block_manager

    seen = set()

    def observe(kernel, args):
        # A simulated device array has a shape of one dimension; a NumPy scalar has an empty one.
        seen.add((kernel, tuple((value.shape != (), value.dtype) for value in args)))

    block_manager.observers.append(observe)
    yield seen
    block_manager.observers.remove(observe)


def test_every_operator_has_a_small_case():
    without = [stem for stem, module in checks.modules().items() if not any(c.get("small") for c in module.CASES)]
    assert not without


@pytest.mark.parametrize("module, case, dtype", CASES)
def test_operator(module, case, dtype, launches):
    module.check("simulator", case, np.dtype(dtype))
    for kernel, types in launches:
        builds = importlib.import_module(kernel.__module__).COMPILE
        declared = [
            argument_types(build.codes, dtype) for build in builds if build.kernel is kernel and dtype in build.dtypes
        ]
        assert types in declared, f"{kernel.__module__}.{kernel.__name__} is not compiled for {types} in the tests"
