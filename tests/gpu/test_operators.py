"""Every case of every operator on the GPU, against the float64 oracles."""

import numpy as np
import pytest

from tests import checks

CASES = [
    pytest.param(module, case, dtype, id=f"{stem}-{number}-{dtype}")
    for stem, module in checks.modules().items()
    for number, case in enumerate(module.CASES)
    for dtype in ("float32", "float64")
]


@pytest.mark.parametrize("module, case, dtype", CASES)
def test_operator(module, case, dtype):
    module.check("cuda", case, np.dtype(dtype))
