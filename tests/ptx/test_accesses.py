"""What costs a GPU time shows in the addresses: no bank conflicts, and no more of memory fetched than is used.

Of the kernels that are to run at the speed of the hardware, on arrays placed as CuPy places them.
"""

import numpy as np
import pytest

from sccengine.functional.separable import Stage
from sccengine.kernels.cuda import conv2d, depthwise, scc, separable
from sccengine.windows import ChannelWindows
from tests.ptx.memory import WORD, Shared, Space

WARP, BANKS, SECTOR = 32, 32, 32
# Bytes that one pass of shared memory serves.
PASS = BANKS * WORD
# What CuPy aligns an array to.
ALIGNMENT = 256
VECTOR = 16
VARIANTS = [name for name, variant in scc.VARIANTS.items() if name.startswith(("register", "tf32", "bf16"))]


class Accesses:
    """Counts of a test's accesses: passes of shared memory, and sectors that vector loads and stores fetch."""

    def __init__(self):
        self.passes = self.least_passes = self.sectors = self.least_sectors = 0

    def observe(self, space, addresses, size, threads):
        if isinstance(space, Shared):
            self._count_passes(addresses, size, threads)
        elif size == VECTOR:
            warps = threads // WARP
            self.sectors += len(_pairs(warps, addresses // SECTOR))
            used = np.bincount(_pairs(warps, addresses) >> _SHIFT)
            self.least_sectors += (-(-used * size // SECTOR)).sum()

    def _count_passes(self, addresses, size, threads):
        # A warp's access is served in parts, each in as many passes as it wants words of one bank.
        parts = threads * size // max(PASS, WARP * size) if size < WORD else threads * size // PASS
        words = (addresses[:, None] // WORD + np.arange(max(1, size // WORD))).ravel()
        wanted = _pairs(np.repeat(parts, max(1, size // WORD)), words)
        banks, counts = np.unique((wanted >> _SHIFT) * BANKS + wanted % BANKS, return_counts=True)
        _, first = np.unique(banks // BANKS, return_index=True)
        self.passes += np.maximum.reduceat(counts, first).sum()
        self.least_passes += len(first)


_SHIFT = 44


def _pairs(groups, numbers):
    """The different pairs of small numbers and of numbers below 2**_SHIFT, each as one number."""
    return np.unique((groups - groups.min() << _SHIFT) + numbers % (1 << _SHIFT))


@pytest.fixture
def accesses(monkeypatch):
    counts = Accesses()
    monkeypatch.setattr(Space, "observer", staticmethod(counts.observe))
    return counts


def placed(*shape):
    """Random numbers at a multiple of ALIGNMENT bytes."""
    size = int(np.prod(shape))
    memory = np.empty(size + ALIGNMENT // WORD, np.float32)
    first = -memory.ctypes.data % ALIGNMENT // WORD
    array = memory[first : first + size].reshape(shape)
    array[:] = np.random.default_rng(size).standard_normal(shape)
    return array


def check(accesses):
    assert accesses.passes == accesses.least_passes > 0
    # What the launchers allocate for themselves, NumPy aligns to 16 bytes only.
    assert 0 < accesses.sectors <= 1.25 * accesses.least_sectors


@pytest.mark.parametrize("launcher", ["forward", "backward_input", "backward_weight"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_contraction(variant, launcher, accesses):
    windows = ChannelWindows.sliding(64, 128, 2, 0.5)
    x, weight, y = placed(64, 128), placed(128, 32), placed(128, 128)
    if launcher == "forward":
        scc.forward(x, weight, None, y, windows, variant)
    elif launcher == "backward_input":
        scc.backward_input(y, weight, x, windows, variant)
    else:
        scc.backward_weight(y, x, weight, windows, variant)
    check(accesses)


def test_dense_convolution(accesses):
    x, weight, y = placed(16, 4, 4, 32), placed(32, 16, 3, 3), placed(32, 4, 4, 32)
    conv2d.forward(x, weight, None, y, (1, 1), (1, 1), 1)
    conv2d.backward_input(y, weight, x, (1, 1), (1, 1), 1)
    conv2d.backward_weight(y, x, weight, (1, 1), (1, 1), 1)
    check(accesses)


def test_depthwise_convolution(accesses):
    x, weight, y, dbias = placed(8, 6, 6, 64), placed(8, 3, 3), placed(8, 6, 6, 64), placed(8)
    depthwise.forward(x, weight, None, y, (1, 1), (1, 1))
    depthwise.backward(y, x, weight, x.copy(), weight, dbias, (1, 1), (1, 1))
    check(accesses)


def test_depthwise_separable_block(accesses):
    x, y = placed(32, 4, 4, 32), placed(64, 4, 4, 32)
    stages, windows = (Stage(placed(32, 3, 3)), Stage(placed(64, 16))), ChannelWindows.sliding(32, 64, 2, 0.5)
    separable.forward(x, *stages, y, windows, (1, 1), (1, 1), "highest")
    check(accesses)
