"""set_matmul_precision: what it takes, and what it leaves alone. What it changes is seen in tests/simulator and gpu."""

import threading

import numpy as np
import pytest

import sccengine
import sccengine.functional as F
from sccengine import reference
from sccengine.autograd import Tensor


@pytest.fixture(autouse=True)
def restored():
    before = sccengine.get_matmul_precision()
    yield
    sccengine.set_matmul_precision(before)


def test_it_starts_in_full_precision_and_keeps_what_is_set():
    assert sccengine.get_matmul_precision() == "highest"
    for precision in ("high", "medium", "highest"):
        sccengine.set_matmul_precision(precision)
        assert sccengine.get_matmul_precision() == precision


@pytest.mark.parametrize("bad", ["tf32", "HIGH", "", None, 1, ["high"]])
def test_other_names_are_refused_and_change_nothing(bad):
    sccengine.set_matmul_precision("high")
    with pytest.raises(ValueError, match="one of 'highest', 'high', 'medium', got"):
        sccengine.set_matmul_precision(bad)
    assert sccengine.get_matmul_precision() == "high"


def test_all_threads_share_it():
    thread = threading.Thread(target=sccengine.set_matmul_precision, args=("medium",))
    thread.start()
    thread.join()
    assert sccengine.get_matmul_precision() == "medium"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cpus_compute_in_full_precision_whatever_is_set(dtype):
    random = np.random.default_rng(0)
    x, weight = random.standard_normal((3, 8, 2, 2)).astype(dtype), random.standard_normal((6, 4)).astype(dtype)
    results = []
    for precision in ("highest", "high", "medium"):
        sccengine.set_matmul_precision(precision)
        inputs = Tensor(x, requires_grad=True, device="cpu"), Tensor(weight, requires_grad=True, device="cpu")
        y = F.scc(*inputs, groups=2, overlap=0.5)
        y.backward(Tensor(np.ones(y.shape, dtype), device="cpu"))
        results.append([y.numpy(), *(each.grad.numpy() for each in inputs)])
    for other in results[1:]:
        for got, want in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(got, want)
    np.testing.assert_allclose(results[0][0], reference.scc_forward(x, weight, None, 2, 0.5, 1), rtol=1e-5, atol=1e-6)
