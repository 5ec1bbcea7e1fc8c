"""Memory shared with NumPy and PyTorch through DLPack: what one side writes, the other reads."""

import gc
import sys
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

import sccengine as scc
import sccengine.functional as F
from sccengine import backend
from sccengine.interop.dlpack import from_cuda_array_interface, from_dlpack

SHAPES = [(3,), (3, 5), (4, 3, 2, 5), (1, 3, 2, 2), (2, 1, 1, 1)]


def batch_last(shape, dtype=np.float32):
    values = np.arange(np.prod(shape), dtype=dtype)
    if len(shape) < 2:
        return values
    return np.moveaxis(values.reshape(*shape[1:], shape[0]), -1, 0)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason='needs PyTorch: pip install "sccengine[test-torch]"')


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("shape", SHAPES)
def test_numpy_both_ways(shape, dtype):
    source = batch_last(shape, dtype)
    tensor = from_dlpack(source, copy=False)
    assert tensor.shape == shape and tensor.dtype == dtype and np.shares_memory(tensor.array, source)
    view = np.from_dlpack(tensor)
    assert np.shares_memory(view, source) and view.strides == tensor.array.strides


@pytest.mark.parametrize("shape", SHAPES)
def test_pytorch_reads_and_writes_the_same_memory(torch, shape):
    tensor = scc.Tensor(batch_last(shape))
    theirs = torch.from_dlpack(tensor)
    assert tuple(theirs.shape) == shape
    np.testing.assert_array_equal(theirs.numpy(), tensor.numpy())
    theirs[-1] = 7
    assert (tensor.numpy()[-1] == 7).all()
    tensor.data[0] = 9
    assert (theirs[0] == 9).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pytorch_tensor_is_shared_where_its_batch_is_last(torch, shape):
    theirs = torch.from_numpy(batch_last(shape))
    tensor = from_dlpack(theirs, copy=False)
    tensor.data[-1] = 7
    assert (theirs[-1] == 7).all()
    theirs[0] = 9
    assert (tensor.numpy()[0] == 9).all()
    back = torch.from_dlpack(tensor)
    assert back.data_ptr() == theirs.data_ptr() and back.stride() == theirs.stride()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint8"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_dtype_goes_to_pytorch_and_back_without_a_copy(torch, shape, dtype):
    theirs = torch.from_numpy(batch_last(shape, dtype))
    tensor = from_dlpack(theirs, copy=False)
    assert str(tensor.dtype) == dtype and tensor.array.ctypes.data == theirs.data_ptr()
    back = torch.from_dlpack(tensor)
    assert back.dtype == theirs.dtype and back.data_ptr() == theirs.data_ptr() and torch.equal(back, theirs)


VIEWS = {
    "channels": (lambda x: x[:, 1:3], True),  # rows of memory that follow each other
    "one channel": (lambda x: x[:, :1], True),
    "rows of the image": (lambda x: x[:, :1, 1:], True),
    "every other channel": (lambda x: x[:, ::2], False),
    "images": (lambda x: x[1:], False),
    "columns": (lambda x: x[:, :, :, :2], False),
    "transposed": (lambda x: x.transpose(2, 3), False),
    "repeated": (lambda x: x[:1].expand(5, -1, -1, -1), False),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_are_shared_where_they_are_whole_rows_of_memory(torch, name):
    take, shared = VIEWS[name]
    theirs = take(torch.from_numpy(batch_last((4, 3, 2, 5))))
    tensor = from_dlpack(theirs)
    np.testing.assert_array_equal(tensor.numpy(), theirs.numpy())
    assert (tensor.array.ctypes.data == theirs.data_ptr()) == shared
    if shared:
        tensor.data[...] = -1
        assert (from_dlpack(theirs, copy=False).numpy() == -1).all() and (theirs == -1).all()
    else:
        tensor.data[...] = -1
        assert (theirs >= 0).all()
        with pytest.raises(ValueError, match="batch last in memory"):
            from_dlpack(theirs, copy=False)


def test_numpy_views_with_backward_strides_are_copied(torch):
    source = batch_last((4, 3, 2, 5))[:, ::-1]
    np.testing.assert_array_equal(from_dlpack(source).numpy(), source)
    with pytest.raises(ValueError, match="batch last in memory"):
        from_dlpack(source, copy=False)


def test_memory_lives_as_long_as_somebody_reads_it(torch):
    source = batch_last((4, 3, 2, 5))
    values, owner = source.copy(), weakref.ref(source.base)
    tensor = from_dlpack(source, copy=False)
    del source
    theirs = torch.from_dlpack(tensor)
    del tensor
    gc.collect()
    assert owner() is not None
    np.testing.assert_array_equal(theirs.numpy(), values)
    again = from_dlpack(theirs, copy=False)
    del theirs
    gc.collect()
    np.testing.assert_array_equal(F.relu(again).numpy(), values)
    del again
    gc.collect()
    assert owner() is None


def test_pytorch_may_forget_what_it_lent(torch):
    theirs = torch.from_numpy(batch_last((4, 3, 2, 5))) + 0.5  # PyTorch's own memory
    values = theirs.numpy().copy()
    tensor = from_dlpack(theirs, copy=False)
    del theirs
    gc.collect()
    fill = [torch.full((120,), -7.0) for _ in range(50)]
    np.testing.assert_array_equal(tensor.numpy(), values)
    assert len(fill) == 50


def test_another_order_is_copied_once_or_refused(torch):
    theirs = torch.arange(24.0).reshape(2, 3, 2, 2)
    tensor = from_dlpack(theirs)
    np.testing.assert_array_equal(tensor.numpy(), theirs.numpy())
    theirs[0] = -1
    assert (tensor.numpy() >= 0).all()
    with pytest.raises(ValueError, match="batch last in memory"):
        from_dlpack(theirs, copy=False)
    shared = batch_last((2, 3))
    copied = from_dlpack(shared, copy=True)
    assert not np.shares_memory(copied.array, shared)


def test_read_only_memory_is_not_written(torch):
    source = batch_last((2, 3))
    source.flags.writeable = False
    with pytest.raises(ValueError, match="must be writeable"):
        from_dlpack(source, copy=False)
    tensor = from_dlpack(source)
    tensor.data[...] = -1
    assert source.max() == 5


def test_results_of_operators_are_not_lent(torch):
    x = scc.Tensor(batch_last((2, 3)), requires_grad=True)
    y = F.relu(x)
    for lend in (torch.from_dlpack, np.from_dlpack):
        with pytest.raises(BufferError, match=r"pass tensor.detach\(\)"):
            lend(y)
    np.testing.assert_array_equal(torch.from_dlpack(y.detach()).numpy(), y.numpy())
    with scc.no_grad():
        result = F.relu(x)
    assert torch.from_dlpack(result).data_ptr() == result.array.ctypes.data


def test_what_pytorch_wrote_before_backward_is_noticed(torch):
    x = scc.Tensor(batch_last((2, 3, 2, 2)))
    weight = scc.Parameter(np.ones((4, 3, 1, 1), np.float32))
    theirs = torch.from_dlpack(x)
    loss = F.global_avg_pool2d(F.conv2d(x, weight))
    theirs += 1
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward(np.ones((2, 4), np.float32))


def test_a_dtype_that_tensors_do_not_hold_is_named(torch):
    with pytest.raises(TypeError, match="a tensor holds float32, float64 or integers, got float16"):
        from_dlpack(torch.ones(3, dtype=torch.float16))


class DeviceArray:
    """A stand-in for CuPy's array in host memory: what the engine asks of one, and ``__cuda_array_interface__``."""

    def __init__(self, array):
        self.host = array
        self.shape, self.strides, self.ndim = array.shape, array.strides, array.ndim
        self.dtype, self.size, self.flags, self.base = array.dtype, array.size, array.flags, array.base
        self.device = SimpleNamespace(id=0)
        self.data = SimpleNamespace(ptr=array.ctypes.data, device_id=0)

    @property
    def __cuda_array_interface__(self):
        return {**self.host.__array_interface__, "version": 3}

    def transpose(self, *axes):
        return DeviceArray(self.host.transpose(*axes))

    def copy(self, order="C"):
        return DeviceArray(self.host.copy(order))

    def view(self):
        return DeviceArray(self.host.view())


@pytest.fixture
def gpu(monkeypatch):
    """A GPU whose memory is the host's."""

    def asarray(value):
        described = SimpleNamespace(__array_interface__=value.__cuda_array_interface__, owner=value)
        return DeviceArray(np.asarray(described))

    cuda = SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=lambda: 1, getDevice=lambda: 0))
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(ndarray=DeviceArray, asarray=asarray, cuda=cuda))
    monkeypatch.setattr(backend, "cuda_problem", lambda: None)


class Foreign:
    """An array of another program on a GPU: nothing but the protocol."""

    def __init__(self, array):
        self.array = array
        self.__cuda_array_interface__ = {**array.__array_interface__, "version": 3}


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_cuda_array_interface_both_ways(gpu, shape, dtype):
    source = batch_last(shape, dtype)
    tensor = from_cuda_array_interface(Foreign(source), copy=False)
    assert (tensor.device, tensor.shape, str(tensor.dtype)) == ("cuda:0", shape, dtype)
    described = tensor.__cuda_array_interface__
    assert described["data"] == (source.ctypes.data, False)
    assert described["shape"] == shape and described["typestr"] == source.dtype.str
    back = from_cuda_array_interface(Foreign(tensor.array.host), copy=False)
    assert back.array.data.ptr == source.ctypes.data
    copied = from_cuda_array_interface(Foreign(source), copy=True)
    assert copied.array.data.ptr != source.ctypes.data
    np.testing.assert_array_equal(copied.array.host, source)


def test_the_cuda_array_interface_in_another_order(gpu):
    source = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    tensor = from_cuda_array_interface(Foreign(source))
    np.testing.assert_array_equal(tensor.array.host, source)
    assert not np.shares_memory(tensor.array.host, source)
    for refused in (source, batch_last((4, 3, 2, 5))[:, ::2]):
        with pytest.raises(ValueError, match="batch last in memory"):
            from_cuda_array_interface(Foreign(refused), copy=False)


def test_results_of_operators_are_not_lent_by_the_cuda_array_interface(gpu):
    class Same(scc.Function):
        def forward(self, x):
            return x.view()

    tensor = from_cuda_array_interface(Foreign(batch_last((2, 3))))
    tensor.requires_grad = True
    result = Same()(tensor)
    with pytest.raises(BufferError, match=r"pass tensor.detach\(\)"):
        _ = result.__cuda_array_interface__


def test_what_cannot_be_shared():
    with pytest.raises(TypeError, match="list has no __dlpack__"):
        from_dlpack([1.0])
    with pytest.raises(TypeError, match="ndarray has no __cuda_array_interface__"):
        from_cuda_array_interface(np.ones(3))
    assert not hasattr(scc.Tensor([1.0]), "__cuda_array_interface__")
