"""Every case of every operator on the GPU, against the float64 oracles."""

import numpy as np
import pytest

from sccengine.kernels.cuda import scc, scc_tensor
from tests import checks, scc_specials

CASES = [
    pytest.param(module, case, dtype, id=f"{stem}-{number}-{dtype}")
    for stem, module in checks.modules().items()
    for number, case in enumerate(module.CASES)
    for dtype in ("float32", "float64")
]


@pytest.mark.parametrize("module, case, dtype", CASES)
def test_operator(module, case, dtype):
    module.check("cuda", case, np.dtype(dtype))


@pytest.mark.parametrize("variant", scc_tensor.SHAPES)
def test_nan_and_infinities_come_through_tensor_cores(variant):
    cupy = pytest.importorskip("cupy")
    if scc.problem(variant, cupy.zeros(1)):
        pytest.skip(scc.problem(variant, cupy.zeros(1)))
    scc_specials.check(variant, scc_tensor.forward, cupy.asarray, cupy.asnumpy)
