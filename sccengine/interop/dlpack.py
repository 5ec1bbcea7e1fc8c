"""Arrays of other programs as Tensors and back, sharing their memory: DLPack and ``__cuda_array_interface__``.

    torch.from_dlpack(tensor)      numpy.from_dlpack(tensor)      cupy.from_dlpack(tensor)      tensor -> other
    from_dlpack(array)             from_cuda_array_interface(array)                             other -> Tensor

A Tensor is (N, C, ...) with the batch last in memory, so what others get is a view with those strides, and an array
that comes with those strides is shared; one in another order must be copied once, as by ``Tensor(array)``. The result
of an operator is read-only while the graph needs it, and DLPack's consumers may write: hand out ``tensor.detach()``.
On a GPU both sides order their work by the stream that the protocols exchange.
"""

from __future__ import annotations

import sys

import numpy as np

from sccengine import backend
from sccengine.autograd import Tensor

# DLPack's device types of memory that NumPy reads: kDLCPU.
_HOST = 1


def from_dlpack(array, copy=None):
    """A Tensor of what has ``__dlpack__``, such as a PyTorch or CuPy array, on the device where it lives.

    copy    None: share the memory where its order allows, else copy; False: share, or ValueError; True: always copy

    Raises TypeError for an object without DLPack, and RuntimeError for a GPU array where CuPy does not work.
    """
    if not hasattr(array, "__dlpack__") or not hasattr(array, "__dlpack_device__"):
        raise TypeError(f"from_dlpack: {type(array).__name__} has no __dlpack__")
    if array.__dlpack_device__()[0] == _HOST:
        return _tensor("from_dlpack", np.from_dlpack(array), copy)
    return _tensor("from_dlpack", _cupy().from_dlpack(array), copy)


def from_cuda_array_interface(array, copy=None):
    """A Tensor of a GPU array that has ``__cuda_array_interface__``, such as one of Numba; ``copy`` as from_dlpack."""
    if not hasattr(array, "__cuda_array_interface__"):
        raise TypeError(f"from_cuda_array_interface: {type(array).__name__} has no __cuda_array_interface__")
    return _tensor("from_cuda_array_interface", _cupy().asarray(array), copy)


def _tensor(caller, array, copy):
    tensor = Tensor(array.copy() if copy else array, device=backend.device_of(array))
    shared = backend.address(tensor.array) == backend.address(array)
    if copy is False and not shared:
        raise ValueError(
            f"{caller}: an array of shape {tuple(array.shape)} and strides {tuple(array.strides)} bytes cannot be "
            "shared: it must be writeable and have its batch last in memory (torch: x.permute(1, 2, 3, 0).contiguous()"
            ".permute(3, 0, 1, 2)); copy=None copies it"
        )
    return tensor


def _cupy():
    problem = backend.cuda_problem()
    if problem:
        raise RuntimeError(f"an array on a GPU cannot be read: {problem}")
    return sys.modules["cupy"]
