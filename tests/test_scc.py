"""Sliding-channel convolution: every variant against the oracle, identities, gradients, memory orders, bad inputs."""

import os
import subprocess
import sys

import numpy as np
import pytest

import sccengine.functional as F
from sccengine.autograd import Tensor
from sccengine.backend import set_num_threads
from sccengine.gradcheck import assert_close, check_gradients
from sccengine.kernels.cpu import scc as scc_kernels
from sccengine.kernels.cpu import scc_microkernels, scc_tiles
from sccengine.kernels.cpu.scc import VARIANTS
from sccengine.windows import ChannelWindows
from tests.checks import scc as checks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", checks.CASES, ids=str)
def test_every_variant_matches_reference(case, dtype):
    checks.check("cpu", case, dtype)


@pytest.mark.parametrize("columns", [1, 8, 9, 37, 16 * 7 + 3, 16 * 41])
@pytest.mark.parametrize(
    "channels, groups, overlap, size",
    [
        (64, 2, 0.5, scc_microkernels.ROWS),  # as many filters share a window as a tall tile has
        (64, 8, 0.5, scc_microkernels.FLAT_ROWS),
        (64, 4, 0.25, scc_microkernels.FLAT_ROWS),
        (54, 3, 0.33, scc_microkernels.FLAT_ROWS),  # the last tile is not full
    ],
)
def test_tall_and_flat_tiles(channels, groups, overlap, size, columns):
    random = np.random.default_rng(columns)
    windows = ChannelWindows.sliding(channels, channels, groups, overlap)
    tiles, dx_tiles = scc_tiles.tiles_of(windows), scc_tiles.transposed_tiles_of(windows)
    if scc_microkernels.VECTOR_BYTES != 32:
        assert tiles.size == dx_tiles.size == size
    x, dy = random.standard_normal((2, channels, columns))
    weight, bias = random.standard_normal((channels, windows.width)), random.standard_normal(channels)
    y, dx, dweight, dbias = np.empty_like(dy), np.empty_like(x), np.empty_like(weight), np.empty_like(bias)
    dense = windows.scatter(weight)
    scc_kernels.forward(x, weight, bias, y, windows, "tiles", relu=True)
    scc_kernels.backward(dy, x, weight, dx, dweight, dbias, windows)
    assert_close("y", y, np.maximum(dense @ x + bias[:, None], 0), "float64")
    assert_close("dx", dx, dense.T @ dy, "float64")
    assert_close("dweight", windows.scatter(dweight), windows.mask() * (dy @ x.T), "float64")
    assert_close("dbias", dbias, dy.sum(axis=1), "float64")


@pytest.mark.parametrize("transposed", [False, True])
def test_rows_read_where_they_lie_give_the_bits_of_packed_ones(transposed):
    random = np.random.default_rng(0)
    windows = ChannelWindows.sliding(64, 64, 8, 0.5)
    tiles = scc_tiles.transposed_tiles_of(windows) if transposed else scc_tiles.tiles_of(windows)
    assert tiles.reads <= 2 * 64
    weight = random.standard_normal((64, 8)).astype(np.float32)
    source = random.standard_normal((64, 16 * 41 + 3)).astype(np.float32)
    whole_vectors, packed = (np.empty((64, columns), np.float32) for columns in (16 * 41, 16 * 41 + 3))
    for y in (whole_vectors, packed):
        x = np.ascontiguousarray(source[:, : y.shape[1]])
        if transposed:
            scc_tiles.contract_transposed(x, weight, y, windows)
        else:
            scc_tiles.contract(x, weight, None, y, windows)
    np.testing.assert_array_equal(whole_vectors, packed[:, : 16 * 41])


def test_rows_that_crowd_each_other_out_of_the_cache_give_the_same_bits():
    random = np.random.default_rng(0)
    windows = ChannelWindows.dense(24, 80)
    weight = random.standard_normal((80, 24)).astype(np.float32)
    source = random.standard_normal((24, (1 << 15) + 16)).astype(np.float32)
    assert scc_tiles._is_crowded.py_func(1 << 15, 4, 24) and not scc_tiles._is_crowded.py_func(source.shape[1], 4, 24)
    in_place, crowded = (np.empty((80, columns), np.float32) for columns in (source.shape[1], 1 << 15))
    scc_tiles.contract(source, weight, None, in_place, windows)
    scc_tiles.contract(np.ascontiguousarray(source[:, : 1 << 15]), weight, None, crowded, windows)
    np.testing.assert_array_equal(crowded, in_place[:, : 1 << 15])


def _inputs(shape=(2, 12, 3, 2), filters=8, groups=3, dtype=np.float64):
    random = np.random.default_rng(0)
    shapes = (shape, (filters, shape[1] // groups), (filters,))
    return [random.standard_normal(s).astype(dtype) for s in shapes]


@pytest.mark.parametrize("images", [1, 5, 16, 31])
def test_more_threads_than_vectors_of_columns(images):
    """Wide layers on a few numbers a channel, which all threads share all the same."""
    random = np.random.default_rng(images)
    windows = ChannelWindows.sliding(2048, 2050, 2, 0.5)
    x, weight = random.standard_normal((images, 2048)), random.standard_normal((2050, 1024))
    dy = random.standard_normal((images, 2050, 1, 1))
    dense = windows.scatter(weight)
    tensors = [Tensor(x[:, :, None, None], requires_grad=True), Tensor(weight, requires_grad=True)]
    y = F.scc(*tensors, groups=2, overlap=0.5, variant="tiles")
    y.backward(Tensor(dy))
    dy = dy[:, :, 0, 0]
    dweight = np.take_along_axis(dy.T @ x, windows.channels().astype(np.int64), axis=1)
    assert_close("y", y.numpy()[:, :, 0, 0], x @ dense.T, "float64")
    assert_close("dx", tensors[0].grad.numpy()[:, :, 0, 0], dy @ dense, "float64")
    assert_close("dweight", tensors[1].grad.numpy(), dweight, "float64")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("overlap, stride, relu", [(0.33, 1, False), (0.9, 2, True)])
def test_gradcheck(variant, overlap, stride, relu):
    settings = {"groups": 3, "overlap": overlap, "stride": stride, "relu": relu, "variant": variant}
    check_gradients(lambda x, weight, bias: F.scc(x, weight, bias, **settings), _inputs())


def test_relu_inside_is_relu_after():
    x, weight, bias = _inputs()
    x[0, 0, 0, 0] = np.nan
    results = []
    for inside in (True, False):
        tensors = [Tensor(array, requires_grad=True) for array in (x, weight, bias)]
        y = F.scc(*tensors, groups=3, overlap=0.5, relu=inside)
        y = y if inside else F.relu(y)
        y.backward(Tensor(np.ones(y.shape)))
        results.append([y.numpy(), *(tensor.grad.numpy() for tensor in tensors)])
    for one, other in zip(*results):
        np.testing.assert_array_equal(one, other)


def test_equals_a_dense_convolution_with_scattered_weights():
    x, weight, bias = _inputs()
    windows = ChannelWindows.sliding(12, 8, 3, 0.6)
    dense = np.zeros((8, 12))
    np.put_along_axis(dense, windows.channels().astype(np.int64), weight, axis=1)
    want = np.einsum("fc,nchw->nfhw", dense, x) + bias[:, None, None]
    assert_close("y", F.scc(x, weight, bias, groups=3, overlap=0.6).numpy(), want, "float64")
    assert_close("y", F.conv2d(x, dense.reshape(8, 12, 1, 1), bias).numpy(), want, "float64")


def test_no_overlap_is_grouped_pointwise_then_channel_shuffle():
    x, weight, bias = _inputs(filters=9)
    order = np.arange(9).reshape(3, 3).T.ravel()  # filter f of SCC stands at group f % 3, place f // 3
    grouped = F.conv2d(x, weight[order].reshape(9, 4, 1, 1), bias[order], groups=3)
    want = F.channel_shuffle(grouped, 3).numpy()
    assert_close("y", F.scc(x, weight, bias, groups=3, overlap=0).numpy(), want, "float64")


def test_one_group_is_pointwise_with_rotated_weights():
    x, weight, bias = _inputs(groups=1)
    starts = ChannelWindows.sliding(12, 8, 1, 0.5).starts
    rotated = np.stack([np.roll(row, start) for row, start in zip(weight, starts)])
    want = F.conv2d(x, rotated.reshape(8, 12, 1, 1), bias).numpy()
    assert_close("y", F.scc(x, weight, bias, groups=1, overlap=0.5).numpy(), want, "float64")


def test_any_memory_order_gives_the_same():
    x, weight, bias = _inputs()
    want = F.scc(x, weight, bias, groups=3, overlap=0.5).numpy()
    for array in (np.asfortranarray(x), np.repeat(x, 2, axis=3)[..., ::2], x[::-1].copy()[::-1]):
        np.testing.assert_array_equal(F.scc(array, weight, bias, groups=3, overlap=0.5).numpy(), want)
    for array in (np.asfortranarray(weight), np.repeat(weight, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(F.scc(x, array, bias, groups=3, overlap=0.5).numpy(), want)


@pytest.mark.parametrize("needed", [(True, False, False), (False, True, False), (False, False, True)])
def test_only_the_gradients_needed(needed):
    tensors = [Tensor(array, requires_grad=n) for array, n in zip(_inputs(), needed)]
    y = F.scc(*tensors, groups=3, overlap=0.5)
    y.backward(Tensor(np.ones(y.shape)))
    assert tuple(t.grad is not None for t in tensors) == needed


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_the_number_of_threads(dtype):
    def run(threads):
        set_num_threads(threads)
        tensors = [Tensor(a, requires_grad=True) for a in _inputs((32, 48, 9, 9), 56, 2, dtype)]
        y = F.scc(*tensors, groups=2, overlap=0.33)
        y.backward(Tensor(np.random.default_rng(1).standard_normal(y.shape).astype(dtype)))
        return [y.numpy().tobytes(), *(t.grad.numpy().tobytes() for t in tensors)]

    from numba import config

    try:
        assert run(1) == run(config.NUMBA_NUM_THREADS)
    finally:
        set_num_threads(config.NUMBA_NUM_THREADS)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"x": np.zeros((2, 12, 3))}, ValueError, r"scc: input must be \(N, C, H, W\), got shape \(2, 12, 3\)"),
        ({"x": np.zeros((2, 12, 3, 2), int)}, TypeError, "scc: input must be float32 or float64, got int64"),
        ({"x": np.zeros((0, 12, 3, 2))}, ValueError, "scc: every axis of the input"),
        (
            {"weight": np.zeros((8, 5))},
            ValueError,
            r"scc: weight must be \(O, 4\) for 12 channels in 3 groups, got .*\(8, 5\)",
        ),
        ({"weight": np.zeros((8, 4, 1, 1))}, ValueError, r"scc: weight must be \(O, K\), got shape \(8, 4, 1, 1\)"),
        ({"weight": np.zeros((0, 4))}, ValueError, r"scc: weight must be \(O, K\), got shape \(0, 4\)"),
        ({"bias": np.zeros(7)}, ValueError, r"scc: bias must have shape \(8,\), got \(7,\)"),
        ({"weight": np.zeros((8, 4), np.float32)}, TypeError, "scc: weight is float32 but the input is float64"),
        ({"groups": 5}, ValueError, "scc: groups=5 does not divide in_channels=12: .* groups=4 or 6"),
        ({"overlap": 1.0}, ValueError, "overlap must be at least 0 and below 1, got 1.0"),
        ({"overlap": None}, TypeError, "overlap must be a number"),
        ({"stride": 0}, ValueError, "scc: stride must be at least 1, got 0"),
        ({"variant": "fast"}, ValueError, "scc: unknown variant 'fast': use 'auto' or one of channel_stack, .*tiles"),
    ],
)
def test_bad_inputs(change, error, message):
    x, weight, bias = _inputs()
    arguments = {"x": x, "weight": weight, "bias": bias, "groups": 3, "overlap": 0.5} | change
    with pytest.raises(error, match=message):
        F.scc(**arguments)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the resident size from /proc")
def test_no_window_is_copied():
    """Forward and backward of the default variant take their results and little else; cyclic-stack takes K times x."""
    # A threshold that is set does not grow: what is freed is returned, and seen when it is taken again.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 17)}
    done = subprocess.run([sys.executable, "-c", _PEAKS], env=environment, capture_output=True, text=True, check=True)
    tiles, cyclic_stack = map(float, done.stdout.split())
    assert tiles < 3, "y and dx, and room for what else the process does"
    assert cyclic_stack > 4, "the measurement sees copies of windows"


_PEAKS = """
import gc
from pathlib import Path
import numpy as np
import sccengine.functional as F
from sccengine import Tensor, memory

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

x, weight, bias = (Tensor(np.ones(s, np.float32), requires_grad=True) for s in [(16, 128, 32, 32), (128, 64), (128,)])
dy = Tensor(np.ones((16, 128, 32, 32), np.float32))

def peak(variant):
    for tensor in (x, weight, bias):
        tensor.grad = None
    gc.collect()
    memory.release()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    F.scc(x, weight, bias, groups=2, overlap=0.5, variant=variant).backward(dy)
    return (resident("VmHWM") - before) / x.array.nbytes

for variant in ("tiles", "cyclic_stack"):
    peak(variant)  # compiled
    print(peak(variant))
"""
