"""Memory shared on the GPU: with CuPy and Numba always, with PyTorch where it is installed."""

import numpy as np
import pytest

import sccengine as scc
import sccengine.functional as F
from sccengine.interop.dlpack import from_cuda_array_interface, from_dlpack

SHAPE = (4, 3, 2, 5)


@pytest.fixture
def tensor():
    return scc.Tensor(np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32), device="cuda")


def test_cupy_both_ways(tensor):
    import cupy

    for view in (cupy.from_dlpack(tensor), cupy.asarray(tensor)):
        assert view.data.ptr == tensor.array.data.ptr and view.strides == tensor.array.strides
        view[1] = 7
        assert (tensor.numpy()[1] == 7).all()
        for back in (from_dlpack(view, copy=False), from_cuda_array_interface(view, copy=False)):
            assert back.array.data.ptr == view.data.ptr and back.device == tensor.device


def test_numba_reads_a_tensor(tensor):
    from numba import cuda

    view = cuda.as_cuda_array(tensor)
    assert view.shape == SHAPE
    np.testing.assert_array_equal(view.copy_to_host(), tensor.numpy())
    back = from_cuda_array_interface(view, copy=False)
    assert back.array.data.ptr == tensor.array.data.ptr


def test_pytorch_both_ways(tensor):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    for theirs in (torch.from_dlpack(tensor), torch.as_tensor(tensor, device="cuda")):
        assert theirs.data_ptr() == tensor.array.data.ptr
        theirs[0] = 9
        torch.cuda.synchronize()
        assert (tensor.numpy()[0] == 9).all()
        assert from_dlpack(theirs, copy=False).array.data.ptr == theirs.data_ptr()


def test_another_order_and_graph_results(tensor):
    import cupy

    with pytest.raises(ValueError, match="batch last in memory"):
        from_dlpack(cupy.ones(SHAPE, cupy.float32), copy=False)
    assert from_dlpack(cupy.ones(SHAPE, cupy.float32)).numpy().sum() == np.prod(SHAPE)
    tensor.requires_grad = True
    result = F.relu(tensor)
    for lend in (cupy.from_dlpack, lambda t: t.__cuda_array_interface__):
        with pytest.raises(BufferError, match="detach"):
            lend(result)
