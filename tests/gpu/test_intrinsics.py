"""The intrinsics on the machine against NumPy: the simulator's twins read fragments as the kernels do."""

import numpy as np
import pytest

from tests import intrinsics_probe as probe

# mma and ldmatrix first: everything built on tensor cores rests on them.
FIRST = (probe.check_product_tf32, probe.check_product_bf16, probe.check_matrices)
NEEDS = {f"check_{kernel.py_func.__name__}": capability for kernel, _, capability, _ in probe.COMPILE}


@pytest.mark.parametrize(
    "check", sorted(probe.CHECKS, key=lambda check: check not in FIRST), ids=lambda check: check.__name__
)
def test_intrinsic_matches_numpy(check):
    cupy = pytest.importorskip("cupy")
    capability = tuple(int(digit) for digit in cupy.cuda.Device().compute_capability)
    if capability < NEEDS[check.__name__]:
        pytest.skip(f"needs compute capability {NEEDS[check.__name__]}")
    check(cupy.asarray, lambda array: np.asarray(array.get()))
