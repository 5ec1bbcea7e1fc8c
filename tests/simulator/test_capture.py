"""The tests of tests/test_capture.py for the CUDA kernels, and what only a device apart from the host can get wrong."""

import numpy as np
import pytest

import sccengine as scc
import sccengine.functional as F
from sccengine import tuning
from sccengine.autograd import Tensor
from sccengine.kernels.cuda import scc as scc_kernels
from tests.captured_steps import Run, batch
from tests.test_capture import *  # noqa: F403

HOST = {
    "to cpu": (lambda y: y.to("cpu"), r"it copies an array of shape \(1, 1\) from simulator to cpu"),
    "upload": (lambda y: Tensor(np.ones((1, 1)), device="simulator"), r"copies an array .* from cpu to simulator"),
    "CPU work": (lambda y: F.relu(Tensor(np.ones((1, 1), np.float32))), "computes with an array .* on the CPU"),
}


@pytest.fixture(autouse=True)
def float32_products(monkeypatch):
    """No three products on the twins of tensor cores for one, which take minutes: what is captured is the same."""

    def choose_anew():
        scc_kernels._least_work.cache_clear()
        tuning.set_mode(tuning.get_mode())

    monkeypatch.setattr(scc_kernels, "FAST_TF32", ())
    choose_anew()
    yield
    choose_anew()


@pytest.mark.parametrize("name", HOST)
def test_a_step_on_a_device_keeps_off_the_host(name):
    touch, message = HOST[name]

    def step(x):
        y = F.relu(x)
        touch(y)
        return y

    x = np.ones((1, 1), np.float32)
    captured = scc.capture_step(step, x, device="simulator")
    captured(x)
    with pytest.raises(RuntimeError, match=f"captured step: .*{message}"):
        captured(x)


def test_a_model_that_left_the_device_is_named():
    run = Run("simulator")
    captured = scc.capture_step(run.step, *batch(0), device="simulator")
    for number in range(2):
        captured(*batch(number))
    with pytest.raises(RuntimeError, match="input 0 has device cpu, the step was captured for simulator"):
        captured(Tensor(batch(2)[0]), batch(2)[1])
    run.model.to("cpu")
    with pytest.raises(RuntimeError, match=r"parameter first\.weight was moved or replaced"):
        captured(*batch(2))
