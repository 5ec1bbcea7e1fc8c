"""The index arithmetic that the spatial kernels share, against plain loops over every position."""

import numpy as np
import pytest
from numba import cuda

from sccengine.kernels.cuda.indexing import covering, inside, offset, split, thread_index, wide_product
from sccengine.kernels.cuda.launch import elements


@cuda.jit
def split_and_join(like, parts, joined, height, width, batch, count):
    i = thread_index()
    if i >= count:
        return
    channel, h, w, n = split(i, height, width, batch)
    parts[4 * i], parts[4 * i + 1], parts[4 * i + 2], parts[4 * i + 3] = channel, h, w, n
    joined[i] = offset(channel, h, w, n, height, width, batch)


@cuda.jit
def ranges(like, insides, coverings, kernel, stride, padding, size, positions):
    i = thread_index()
    if i < positions:
        insides[2 * i], insides[2 * i + 1] = inside(i, kernel, stride, padding, size)
    if i < size:
        coverings[2 * i], coverings[2 * i + 1] = covering(i, kernel, stride, padding, positions)


@cuda.jit
def products(like, a, b, found, count):
    i = thread_index()
    if i < count:
        found[i] = wide_product(a[i], b[i])


def test_a_product_of_two_sizes_has_64_bits():
    a, b = np.array([0, 3, 2**31 - 1, 70000], np.int32), np.array([5, 4, 2**31 - 1, 70000], np.int32)
    found = np.zeros(4, np.int64)
    elements(products, 4, np.zeros(1), a, b, found, 4)
    np.testing.assert_array_equal(found, a.astype(np.int64) * b)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 1, 1, 1), (1, 1, 7, 2), (2, 5, 1, 3)])
def test_split_is_unravel_index_and_offset_its_inverse(shape):
    count = int(np.prod(shape))
    parts, joined = np.full((count, 4), -1, np.int32), np.full(count, -1, np.int32)
    elements(split_and_join, count, np.zeros(1), parts, joined, *shape[1:], count)
    np.testing.assert_array_equal(parts, np.stack(np.unravel_index(np.arange(count), shape), axis=1))
    np.testing.assert_array_equal(joined, np.arange(count))


@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_windows_and_what_they_cover(kernel, stride, padding):
    for size in range(max(1, kernel - 2 * padding), 8):
        positions = (size + 2 * padding - kernel) // stride + 1
        insides, coverings = np.full((positions, 2), -9, np.int32), np.full((size, 2), -9, np.int32)
        elements(
            ranges, max(size, positions), np.zeros(1), insides, coverings, kernel, stride, padding, size, positions
        )
        covered = {
            (position, pixel)
            for position in range(positions)
            for pixel in range(size)
            if 0 <= pixel - (position * stride - padding) < kernel
        }
        assert {(a, p) for a in range(positions) for p in range(*insides[a])} == covered
        assert {(a, p) for p in range(size) for a in range(*coverings[p])} == covered
