"""How kernels meet CuPy: streams, views of memory, determinism."""

import numpy as np
import pytest

from sccengine.kernels.cuda import launch, scc
from sccengine.windows import ChannelWindows

# Long enough (some milliseconds of additions) for a kernel on another stream to overtake CuPy's work.
ELEMENTS, ROUNDS = 1 << 24, 20


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


def test_a_launch_is_ordered_with_cupys_work_on_a_stream_of_its_own(cupy):
    from sccengine.kernels.cuda import add

    stream = cupy.cuda.Stream(non_blocking=True)
    a = cupy.zeros(ELEMENTS, np.float32)
    y = cupy.zeros(ELEMENTS, np.float32)
    add.forward(a, a, y)
    cupy.cuda.Device().synchronize()
    with stream:
        for _ in range(ROUNDS):
            a += 1
        add.forward(a, a, y)
        y += 1
    stream.synchronize()
    assert bool((y == 2 * ROUNDS + 1).all())


def test_results_of_deterministic_variants_have_the_same_bits_every_time(cupy):
    windows = ChannelWindows.sliding(24, 40, 2, 0.5)
    random = np.random.default_rng(0)
    x, dy = (cupy.asarray(random.standard_normal((rows, 20_000)).astype(np.float32)) for rows in (24, 40))
    weight = cupy.asarray(random.standard_normal((40, 12)).astype(np.float32))
    for name, variant in scc.VARIANTS.items():
        if not variant.deterministic or scc.problem(name, x):
            continue
        seen = set()
        for _ in range(3):
            y, dx, dweight = cupy.empty_like(dy), cupy.empty_like(x), cupy.empty_like(weight)
            scc.forward(x, weight, None, y, windows, name)
            scc.backward_input(dy, weight, dx, windows, name)
            scc.backward_weight(dy, x, dweight, windows, name)
            seen.add(tuple(array.get().tobytes() for array in (y, dx, dweight)))
        assert len(seen) == 1, name


def test_an_array_that_is_not_contiguous_is_refused(cupy):
    from sccengine.kernels.cuda import rows

    with pytest.raises(ValueError, match="not C-contiguous"):
        rows.sum_rows(cupy.zeros((4, 6), np.float32).T, cupy.zeros(6, np.float32))


def test_tables_are_uploaded_once(cupy):
    like = cupy.zeros(1, np.float32)
    first = launch.table(np.arange(5), like)
    assert launch.table(np.arange(5), like) is first
    assert launch.table(np.arange(6), like) is not first
    assert first.dtype == np.int32 and first.get().tolist() == [0, 1, 2, 3, 4]
