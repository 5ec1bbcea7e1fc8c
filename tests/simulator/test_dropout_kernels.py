"""Dropout's decision u >= p, exact for every p; its random bits by Numba's typing, which the simulator leaves out."""

import numba
import numpy as np
import pytest

from sccengine import reference
from sccengine.kernels.cpu import dropout as on_cpu
from sccengine.kernels.cuda import dropout

KEY = np.array([77], np.uint64)


def _kept(probability):
    return reference.dropout_mask((1, 40), probability, int(KEY[0]))[0]


@pytest.mark.parametrize("step", [-1, 0, 1])
def test_the_threshold_is_exact(step):
    element = int(np.argmin(_kept(0.5)))
    low, high = 0.0, 1.0
    while high - low > 2.0**-30:
        middle = (low + high) / 2
        low, high = (middle, high) if _kept(middle)[element] else (low, middle)
    draw = round(low * 2**24) / 2**24
    y = np.full(40, np.nan, np.float32)
    dropout.apply(np.ones(40, np.float32), y, draw + step * 2.0**-40, KEY)
    assert (y[element] != 0) == (step <= 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_cpu_has_the_same_bits(dtype):
    x = np.random.default_rng(0).standard_normal(40).astype(dtype)
    y, want = np.empty_like(x), np.empty_like(x)
    dropout.apply(x, y, 0.3, KEY)
    on_cpu.apply(x, want, 0.3, KEY)
    np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("key", [0, 1, 2**63, 2**64 - 1])
def test_bits_in_compiled_arithmetic(key):
    bits = numba.njit(dropout.random_bits.py_func)
    for i in (0, 1, 2, 1000, 2**31 - 1):
        z = (key + (i + 1) * 0x9E3779B97F4A7C15) % 2**64
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        assert bits(np.uint64(key), np.int32(i)) == (z ^ (z >> 31)) >> 40
