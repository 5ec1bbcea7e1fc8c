"""Devices by name, errors that say what is missing, memory order, counter-based keys."""

import os
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from sccengine import backend


def _python(code, **environment):
    environment = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


@pytest.mark.skipif(backend.cuda_problem() is None, reason="this machine has a GPU that works")
def test_cuda_without_a_gpu_says_what_is_missing():
    with pytest.raises(RuntimeError, match="device 'cuda' cannot be used: .*(CuPy|driver|NUMBA_ENABLE_CUDASIM)"):
        backend.resolve_device("cuda")


@pytest.mark.skipif(os.environ.get("NUMBA_ENABLE_CUDASIM") == "1", reason="the simulator is switched on")
def test_the_simulator_says_how_to_switch_it_on():
    with pytest.raises(RuntimeError, match="NUMBA_ENABLE_CUDASIM=1"):
        backend.resolve_device("simulator")


class _Gpus:
    """Stands for CuPy with two GPUs: arrays come to be on the current one."""

    def __init__(self):
        self.current = 0
        self.cuda = SimpleNamespace(runtime=SimpleNamespace(getDevice=lambda: self.current))

    @contextmanager
    def device(self, number):
        before, self.current = self.current, number
        yield
        self.current = before

    def ndarray(self, shape, dtype):
        return self.array(self.current, shape, dtype)

    def array(self, number, shape=(2,), dtype=np.float32):
        flags = SimpleNamespace(c_contiguous=False)
        data, device = SimpleNamespace(device_id=number), self.device(number)
        copy = lambda order: self.ndarray(shape, dtype)  # noqa: E731
        return SimpleNamespace(shape=shape, dtype=dtype, data=data, device=device, flags=flags, copy=copy)


def test_new_arrays_are_on_the_gpu_of_the_one_they_belong_to(monkeypatch):
    gpus = _Gpus()
    monkeypatch.setitem(sys.modules, "cupy", gpus)
    for number in (0, 1):
        made = backend.empty((3,), like=gpus.array(number)), backend.contiguous(gpus.array(number))
        assert [array.data.device_id for array in made] == [number] * 2
    assert gpus.current == 0


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:", "cpu:0", ""])
def test_unknown_devices(name):
    with pytest.raises(ValueError, match="unknown device"):
        backend.resolve_device(name)


def test_default_device_comes_from_the_environment():
    result = _python("import sccengine as scc; print(scc.Tensor([1.0]).device)", SCCENGINE_DEVICE="nonsense")
    assert result.returncode == 1 and "unknown device 'nonsense'" in result.stderr
    result = _python("import sccengine as scc; print(scc.Tensor([1.0]).device)", SCCENGINE_DEVICE="cpu")
    assert result.stdout == "cpu\n"


def test_auto_says_once_what_it_chose():
    code = "from sccengine import backend; backend.resolve_device('auto'); print(backend.resolve_device('auto'))"
    result = _python(code)
    assert result.stderr.count("device 'auto' is") == 1
    assert result.stdout.strip() in ("cpu", "cuda:0")


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (2, 3, 4, 5), (1, 1, 1, 1)])
def test_rows_and_back(shape):
    array = np.random.default_rng(0).standard_normal(shape)
    rows = backend.rows(array)
    assert rows.flags.c_contiguous
    np.testing.assert_array_equal(backend.from_rows(rows), array)
    again = backend.rows(backend.from_rows(rows))
    assert backend.owner(again) is backend.owner(rows), "an array in order must not be copied"


def test_keys_depend_on_seed_count_and_purpose_alone():
    backend.set_seed(3)
    first = [backend.next_key("init"), backend.next_key("init"), backend.next_key("dropout")]
    assert len(set(first)) == 3 and all(0 <= key < 2**64 for key in first)
    backend.set_seed(3)
    state = backend.random_state()
    assert [backend.next_key("init"), backend.next_key("init")] == first[:2]
    backend.set_random_state(state)
    assert backend.next_key("init") == first[0]
    assert backend.next_key("dropout") != first[1]
    backend.set_seed(4)
    assert backend.next_key("init") != first[0]


@pytest.mark.parametrize("seed", [1.5, "1", True, None])
def test_bad_seeds(seed):
    with pytest.raises(TypeError, match="set_seed: the seed must be a whole number, got"):
        backend.set_seed(seed)


def test_negative_seeds():
    with pytest.raises(ValueError, match="set_seed: the seed must be at least 0, got -1"):
        backend.set_seed(-1)


def test_bad_thread_counts():
    with pytest.raises(ValueError, match="threads must be from 1 to"):
        backend.set_num_threads(0)


def test_host_values_are_asked_for_once_and_keep_64_bits():
    calls = []

    def numbers():
        calls.append(1)
        return [2**64 - 1, 3]

    value = backend.host_value(numbers, np.zeros(1, np.float32), np.uint64)
    assert value.dtype == np.uint64 and value.tolist() == [2**64 - 1, 3] and len(calls) == 1
    assert backend.host_value(lambda: [0.1], np.zeros(1, np.float32), np.float64).tolist() == [0.1]
