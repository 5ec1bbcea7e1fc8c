"""Many tensors in one launch, to the bit what one launch a tensor gives, and nothing beside them is touched."""

import numpy as np
import pytest

from sccengine.kernels.cuda import adamw, launch, multi_tensor, sgd

# Around a chunk of the simulator's size; tensors of one element, of none, not in fours, and of two axes.
SHAPES = [(1,), (multi_tensor.CHUNK,), (multi_tensor.CHUNK + 1,), (3, 5), (0, 2), (4,), (2, multi_tensor.CHUNK - 3)]
GUARD = 77.0


def tensors(seed, dtype, shift, initial=None):
    """One array for each of SHAPES, `shift` elements off alignment, between guards."""
    random = np.random.default_rng(seed)
    arrays = []
    for shape in SHAPES:
        size = int(np.prod(shape))
        memory = np.full(size + 8, GUARD, dtype)
        inner = memory[4 + shift : 4 + shift + size]
        inner[:] = random.standard_normal(size) if initial is None else initial
        arrays.append(inner.reshape(shape))
    return arrays


def guards_hold(arrays):
    for array in arrays:
        memory = array.base if array.base.ndim == 1 else array.base.base
        inner = array.reshape(-1)
        start = (inner.ctypes.data - memory.ctypes.data) // memory.itemsize
        if inner.size and not (np.all(memory[:start] == GUARD) and np.all(memory[start + inner.size :] == GUARD)):
            return False
    return True


def same(got, want):
    for a, b in zip(got, want, strict=True):
        assert a.tobytes() == b.tobytes()
    assert guards_hold(got)


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("momentum, nesterov", [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd(momentum, nesterov, dtype, shift):
    parameters, gradients = tensors(0, dtype, shift), tensors(1, dtype, shift)
    buffers = tensors(2, dtype, shift, initial=-0.0) if momentum else None
    gradients[1][0] = -0.0
    want = [array.copy() for array in parameters]
    want_buffers = [array.copy() for array in buffers] if momentum else [None] * len(want)
    for lr in (0.1, 0.03):
        rates = np.array([lr, momentum, 0.01])
        sgd.update(parameters, gradients, buffers, rates, nesterov)
        for p, g, b in zip(want, gradients, want_buffers):
            flags = momentum != 0, nesterov
            launch.elements(sgd.update_v1, p.size, p, g, b, rates, *flags, p.size)
        same(parameters, want)
        if momentum:
            same(buffers, want_buffers)
        if momentum and lr == 0.1:
            decayed = gradients[3] + np.dtype(dtype).type(0.01) * tensors(0, dtype, shift)[3]
            np.testing.assert_array_equal(buffers[3], decayed)


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_adamw(dtype, shift):
    lists = [tensors(seed, dtype, shift, initial=0 if seed > 1 else None) for seed in range(4)]
    want = [[array.copy() for array in arrays] for arrays in lists]
    for step in (1, 2):
        rates = [0.9, 1 - 0.9, 0.99, 1 - 0.99, 1 - 0.1 * 0.01, 0.1 / (1 - 0.9**step), (1 - 0.99**step) ** 0.5, 1e-8]
        adamw.update(*lists, np.array(rates))
        for arrays in zip(*want):
            launch.elements(adamw.update_v1, arrays[0].size, *arrays, np.array(rates), arrays[0].size)
        for got, wanted in zip(lists, want):
            same(got, wanted)


def test_one_launch_for_each_dtype(monkeypatch):
    launched = []
    monkeypatch.setattr(launch, "blocks", lambda kernel, grid, *args: launched.append((kernel, grid)))
    parameters = tensors(0, "float32", 0) + tensors(1, "float64", 0)
    sgd.update(parameters, parameters, None, np.array([0.1, 0, 0]), False)
    chunks = sum(-(-int(np.prod(shape)) // multi_tensor.CHUNK) for shape in SHAPES)
    assert launched == [(sgd.update_plain_v2, chunks)] * 2


def test_tables_are_kept_while_addresses_stay():
    arrays = tensors(0, "float32", 0)
    (first,), (second,) = multi_tensor.batches(arrays, arrays), multi_tensor.batches(arrays, arrays)
    assert first.addresses is second.addresses and first.chunks is second.chunks
    moved = [array.copy() for array in arrays]
    (third,) = multi_tensor.batches(arrays, moved)
    assert third.chunks is first.chunks
    assert third.addresses[0] == first.addresses[0] and third.addresses[1] == moved[0].ctypes.data
    for _ in range(2 * multi_tensor.KEPT):
        multi_tensor.batches(tensors(0, "float32", 0))
    assert len(multi_tensor._addresses) <= multi_tensor.KEPT
