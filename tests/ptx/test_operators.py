"""Every operator's cases with the kernels, tiles and blocks that a GPU gets, run from their PTX, against the oracles.

The simulator's tests run the same kernels from their Python source, with smaller tiles.
"""

import numpy as np
import pytest

from sccengine.kernels.cuda import launch
from tests import checks

NEWEST, BEFORE_ASYNCHRONOUS_COPIES = (9, 0), (7, 5)
# Large cases of float64 run kernels that float32 has, too; without asynchronous copies the contraction has others.
CASES = [
    pytest.param(module, case, dtype, capability, id=f"{stem}-{number}-{dtype}-{'.'.join(map(str, capability))}")
    for stem, module in checks.modules().items()
    for number, case in enumerate(module.CASES)
    for dtype, capability in (("float32", NEWEST), ("float64", NEWEST), ("float32", BEFORE_ASYNCHRONOUS_COPIES))
    if case.get("small") or (dtype == "float32" and (capability == NEWEST or stem == "scc"))
]


@pytest.mark.slow
@pytest.mark.parametrize("module, case, dtype, capability", CASES)
def test_operator(module, case, dtype, capability, monkeypatch):
    monkeypatch.setattr(launch, "capability", lambda like: capability)
    module.check("simulator", case, np.dtype(dtype))
