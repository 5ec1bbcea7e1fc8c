"""Memory shared with NumPy and PyTorch through DLPack: what one side writes, the other reads."""

import numpy as np
import pytest

import sccengine as scc
import sccengine.functional as F
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


def test_what_cannot_be_shared():
    with pytest.raises(TypeError, match="list has no __dlpack__"):
        from_dlpack([1.0])
    with pytest.raises(TypeError, match="ndarray has no __cuda_array_interface__"):
        from_cuda_array_interface(np.ones(3))
    assert not hasattr(scc.Tensor([1.0]), "__cuda_array_interface__")
