"""The contraction, and the gradient of its bias, over more elements than 32 bits can count."""

import numpy as np
import pytest

from sccengine.gradcheck import assert_close
from sccengine.kernels.cuda import rows, scc
from sccengine.windows import ChannelWindows
from tests.checks.scc import rounding

WINDOWS = ChannelWindows.sliding(5, 5, 1, 0.4)
ROWS = 5
# x, dy and a result.
BYTES = 35 << 30


# One process runs them one after another: two would find the memory free at the same time.
@pytest.mark.xdist_group("memory")
@pytest.mark.parametrize("columns", [2**29 + 4, 2**29 + 3])
def test_values(columns):
    cupy = pytest.importorskip("cupy")
    cupy.get_default_memory_pool().free_all_blocks()
    if cupy.cuda.runtime.memGetInfo()[0] < BYTES:
        pytest.skip("this GPU has less than 35 GB left")
    # Zeros but for some columns, so that a few sums tell all.
    filled = np.unique(np.r_[0:1000, 0:columns:65537, columns - 1000 : columns])
    random = np.random.default_rng(0)
    x, dy = (random.standard_normal((ROWS, len(filled)), dtype=np.float32) for _ in range(2))
    weight = random.standard_normal((ROWS, WINDOWS.width), dtype=np.float32)
    matrix = np.zeros((ROWS, ROWS))
    matrix[np.arange(ROWS)[:, None], WINDOWS.channels()] = weight
    product = dy.astype(np.float64) @ x.T
    want_dweight = np.take_along_axis(product, WINDOWS.channels().astype(np.int64), axis=1)

    result = cupy.empty((ROWS, columns), np.float32)
    long_x, long_dy = cupy.zeros_like(result), cupy.zeros_like(result)
    for row in range(ROWS):
        long_x[row, filled], long_dy[row, filled] = cupy.asarray(x[row]), cupy.asarray(dy[row])
    weights, dbias = cupy.asarray(weight), cupy.empty(ROWS, np.float32)
    dweight = cupy.empty_like(weights)
    rows.sum_rows(long_dy, dbias)
    assert_close("dbias", dbias.get(), dy.sum(axis=1, dtype=np.float64), "float32")
    for name, variant in scc.VARIANTS.items():
        if not name.startswith(("register", "tf32", "bf16")) or scc.problem(name, result):
            continue
        tolerance = rounding(variant, "float32")
        scc.forward(long_x, weights, None, result, WINDOWS, name)
        assert_close(f"{name}: y", _columns(result, filled), matrix @ x, tolerance)
        scc.backward_input(long_dy, weights, result, WINDOWS, name)
        assert_close(f"{name}: dx", _columns(result, filled), matrix.T @ dy, tolerance)
        scc.backward_weight(long_dy, long_x, dweight, WINDOWS, name)
        assert_close(f"{name}: dweight", dweight.get(), want_dweight, tolerance)


def _columns(array, filled):
    return np.stack([row[filled].get() for row in array])
