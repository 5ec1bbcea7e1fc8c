"""What reaches the driver at a launch, with CuPy replaced by stand-ins that write it down. No GPU, no compiler.

tests/gpu/test_launch.py has the same launches on a GPU.
"""

import ctypes
import importlib.util
import os
import sys
import threading
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1" or importlib.util.find_spec("numba_cuda") is None:
    pytest.skip("needs numba-cuda, not simulating", allow_module_level=True)

from sccengine.kernels.cuda import launch

CTYPES = {"Q": ctypes.c_uint64, "q": ctypes.c_int64, "i": ctypes.c_int32, "f": ctypes.c_float, "d": ctypes.c_double}


class Array:
    """Enough of a cupy.ndarray."""

    def __init__(self, address, dtype=np.float32, size=100, contiguous=True, device=0):
        self.data = SimpleNamespace(ptr=address, device_id=device)
        self.dtype = np.dtype(dtype)
        self.size = size
        self.shape, self.strides = (size,), (self.dtype.itemsize,)
        self.flags = SimpleNamespace(c_contiguous=contiguous)


class DriverError(RuntimeError):
    pass


class Driver:
    """CuPy's modules, as far as a launch uses them."""

    def __init__(self):
        self.launches = []
        self.attributes = []
        self.loaded = []
        self.device = 0
        self.capturing = False
        self.largest_shared = 200_000
        self.cupy = ModuleType("cupy")
        self.cupy.ndarray = Array
        self.cupy.cuda = ModuleType("cupy.cuda")
        self.cupy.cuda.Device = self.make_device
        self.cupy.cuda.Module = self.make_module
        self.stream = SimpleNamespace(ptr=77, is_capturing=lambda: self.capturing, synchronize=lambda: None)
        self.cupy.cuda.get_current_stream = lambda: self.stream
        self.cupy.cuda.runtime = SimpleNamespace(getDevice=lambda: self.device, free=lambda pointer: None)
        self.cupy.cuda.driver = SimpleNamespace(
            CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8,
            CUDADriverError=DriverError,
            funcSetAttribute=self.set_attribute,
            launchKernel=self.launch,
        )
        self.codes = ""

    def make_device(self, number=None):
        number = self.device if number is None else number
        driver = self

        class Device:
            compute_capability = "90"
            attributes = {"MaxSharedMemoryPerBlockOptin": driver.largest_shared}

            def __enter__(self):
                self.before, driver.device = driver.device, number

            def __exit__(self, *_):
                driver.device = self.before

        return Device()

    def make_module(self):
        def load(cubin):
            self.loaded.append((self.device, cubin))

        function = SimpleNamespace(ptr=1000 + len(self.loaded))
        return SimpleNamespace(load=load, get_function=lambda name: function)

    def set_attribute(self, function, attribute, value):
        if value > self.largest_shared:
            raise DriverError("invalid argument")
        self.attributes.append((function, attribute, value))

    def launch(self, function, *numbers):
        *sizes, shared, stream, arguments, extra = numbers
        if sizes[3] > 1024:
            raise DriverError("invalid argument")
        addresses = (ctypes.c_void_p * len(self.codes)).from_address(arguments)
        values = [CTYPES[code].from_address(address).value for code, address in zip(self.codes, addresses)]
        self.launches.append((function, tuple(sizes), shared, stream, values))


@pytest.fixture
def driver(monkeypatch):
    """The stand-in, with its own copy of gpu.py."""
    from sccengine.kernels.cuda import compiler

    driver = Driver()
    monkeypatch.setitem(sys.modules, "cupy", driver.cupy)
    monkeypatch.setitem(sys.modules, "cupy.cuda", driver.cupy.cuda)
    monkeypatch.delitem(sys.modules, "sccengine.kernels.cuda.gpu", raising=False)
    # From here on the launcher itself, as before the first launch of a process.
    gpu = importlib.import_module("sccengine.kernels.cuda.gpu")
    monkeypatch.setattr(launch, "_device_launch", gpu.launch)
    driver.compiled = []

    def machine_code(kernel, signature, capability):
        driver.compiled.append((kernel, signature, capability))
        return "entry", b"cubin of " + kernel.__name__.encode()

    monkeypatch.setattr(compiler, "machine_code", machine_code)
    yield driver
    monkeypatch.delitem(sys.modules, "sccengine.kernels.cuda.gpu", raising=False)


def kernel(*arguments):
    """Stands for a kernel; only its name is looked at."""


def other(*arguments):
    """The same."""


def test_each_argument_in_its_place_and_of_its_type(driver):
    driver.codes = "QiQfqQdQQif"
    args = (Array(1 << 40), -7, Array(2 << 40, np.int32), 0.1, np.int64(-(2**40)), None)
    args += (np.float64(0.1), Array(3 << 40, np.uint64), np.uint64(2**64 - 1), True, np.float32(2.5))
    launch.blocks(kernel, (5, 6), 32, *args)
    ((function, sizes, shared, stream, values),) = driver.launches
    assert (function, sizes, shared, stream) == (1000, (5, 6, 1, 32, 1, 1), 0, 77)
    assert values == [
        *(1 << 40, -7, 2 << 40, float(np.float32(0.1)), -(2**40), 0),
        *(0.1, 3 << 40, 2**64 - 1, 1, 2.5),
    ]
    f, i = np.dtype(np.float32), np.dtype(np.int32)
    ((_, signature, capability),) = driver.compiled
    assert capability == (9, 0)
    assert signature == (
        *((True, f), (False, i), (True, i), (False, f), (False, np.dtype(np.int64)), (True, f)),
        *((False, np.dtype(np.float64)), (True, np.dtype(np.uint64)), (False, np.dtype(np.uint64))),
        *((False, i), (False, f)),
    )


def test_a_python_float_is_of_the_arrays_dtype(driver):
    driver.codes = "dQQ"
    launch.elements(kernel, 1000, 0.1, Array(8, np.int32), Array(16, np.float64))
    assert driver.launches[0][1] == (4, 1, 1, 256, 1, 1)
    assert driver.launches[0][-1] == [0.1, 8, 16]


def test_loaded_once_for_each_list_of_types_and_device(driver):
    driver.codes = "Qi"
    for _ in range(3):
        launch.blocks(kernel, 1, 32, Array(8), 3)
    assert len(driver.compiled) == len(driver.loaded) == 1
    launch.blocks(other, 1, 32, Array(8), 3)
    launch.blocks(kernel, 1, 32, Array(8, np.float64), 3)
    launch.blocks(kernel, 1, 32, Array(8, device=1), 3)
    launch.blocks(kernel, 1, 32, Array(8, device=1), 4)
    assert [device for device, _ in driver.loaded] == [0, 0, 0, 1]
    assert [function for function, *_ in driver.launches] == [1000] * 3 + [1001, 1002, 1003, 1003]
    assert driver.device == 0


def test_a_thread_packs_into_memory_of_its_own(driver):
    driver.codes = "Qi"
    barrier = threading.Barrier(2)
    addresses = {}
    record = driver.cupy.cuda.driver.launchKernel

    def slowly(*numbers):
        addresses[threading.get_ident()] = numbers[-2]
        barrier.wait(10)
        record(*numbers)

    monkeypatched = sys.modules["sccengine.kernels.cuda.gpu"].driver
    monkeypatched.launchKernel = slowly
    threads = [threading.Thread(target=launch.blocks, args=(kernel, 1, 1, Array(8), n)) for n in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(addresses.values())) == 2
    assert sorted(values[1] for *_, values in driver.launches) == [1, 2]
    assert len(driver.loaded) == 1


def test_dynamic_shared_memory_is_asked_for_when_it_grows(driver):
    driver.codes = "Q"
    for shared in (0, 1000, 96 * 1024, 2000, 96 * 1024):
        launch.blocks(kernel, 1, 32, Array(8), shared=shared)
    assert driver.attributes == [(1000, 8, 1000), (1000, 8, 96 * 1024)]
    assert [shared for _, _, shared, *_ in driver.launches] == [0, 1000, 96 * 1024, 2000, 96 * 1024]
    with pytest.raises(RuntimeError, match="kernel: 300000 bytes of dynamic shared memory, but a block has 200000"):
        launch.blocks(kernel, 1, 32, Array(8), shared=300_000)
    launch.blocks(kernel, 1, 32, Array(8), shared=2000)


def test_the_first_launch_cannot_be_captured_and_further_ones_can(driver):
    driver.codes = "Q"
    driver.capturing = True
    with pytest.raises(RuntimeError, match="kernel: the first launch .* cannot be captured"):
        launch.blocks(kernel, 1, 32, Array(8))
    driver.capturing = False
    launch.blocks(kernel, 1, 32, Array(8))
    driver.capturing = True
    launch.blocks(kernel, 1, 32, Array(16))
    assert [values for *_, values in driver.launches] == [[8], [16]]


def test_an_empty_grid_launches_nothing(driver):
    launch.blocks(kernel, (3, 0), 32, Array(8))
    launch.elements(kernel, 0, Array(8))
    assert not driver.compiled and not driver.launches


@pytest.mark.parametrize(
    "error, message, grid, block, args",
    [
        (ValueError, "not C-contiguous", 1, 32, (Array(8, contiguous=False),)),
        (ValueError, "use a smaller batch", 1, 32, (Array(8, size=2**31),)),
        (ValueError, "CUDA launches at most", (1, 70_000), 32, (Array(8),)),
        (ValueError, "kernel: arrays on cuda:0 and on cuda:1", 1, 32, (Array(8), Array(8, device=1))),
        (OverflowError, "kernel: a number does not fit", 1, 32, (Array(8), 2**31)),
        (RuntimeError, "got NumPy arrays; they run in Numba's simulator only", 1, 32, (np.zeros(3),)),
        (RuntimeError, r"kernel: \(1, 1, 1\) blocks of \(2048, 1, 1\) threads", 1, 2048, (Array(8),)),
        (TypeError, "at least one array", 1, 32, (3,)),
        (TypeError, "not str", 1, 32, (Array(8), "text")),
        (TypeError, r"pass np\.float32", 1, 32, (Array(8, np.int32), 2.0)),
    ],
)
def test_what_a_kernel_cannot_take_is_refused(driver, error, message, grid, block, args):
    with pytest.raises(error, match=message):
        launch.blocks(kernel, grid, block, *args)
    assert not driver.launches


def test_a_table_is_uploaded_once_for_each_content_shape_and_device(driver, monkeypatch):
    uploads = []
    monkeypatch.setattr(
        driver.cupy, "asarray", lambda host: uploads.append(driver.device) or host.copy(), raising=False
    )
    monkeypatch.setattr(launch, "_tables", {})
    monkeypatch.setattr(launch, "_known", {})
    like, host = Array(8), np.array([0, 0, 1])
    first = launch.table(host, like)
    assert first.dtype == np.int32 and first.tolist() == [0, 0, 1]
    assert launch.table(host, like) is first
    assert launch.table(np.array([0, 0, 1]), like) is first
    # One row of three is another table, though its bytes are the same: callers count rows.
    assert launch.table(np.array([[0, 0, 1]]), like).shape == (1, 3)
    assert launch.table(host, Array(8, device=1)) is not first
    assert uploads == [0, 0, 1]
    with pytest.raises(ValueError, match="read-only"):
        host[0] = 7
    # Arrays that come and go leave nothing behind, and are not taken for one another.
    for number in range(100):
        assert launch.table(np.array([number]), like).tolist() == [number]
    assert len(launch._known) == 2
