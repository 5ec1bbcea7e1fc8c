"""The contraction on tensor cores: long panels, odd rows, full-size tiles, infinities, and when it is chosen."""

import numpy as np
import pytest

import sccengine
import sccengine.functional as F
from sccengine import tuning
from sccengine.autograd import Tensor
from sccengine.gradcheck import TOLERANCES, assert_close
from sccengine.kernels.cuda import launch, scc, scc_tensor, scc_tensor_band
from sccengine.windows import ChannelWindows
from tests import scc_specials

# What rounding a variant's operands does, as a key of TOLERANCES.
ROUNDING = {
    name: {"tf32x3": "float32"}.get(shape.operands, shape.operands) for name, shape in scc_tensor.SHAPES.items()
}
# An operand is off by at most half a unit of its last bit, a product of two by twice that. TF32x3 leaves out the
# product of both rests, of 2^-10 each, and rounds them.
SHARES = {"bf16": 2.0**-7, "tf32": 2.0**-10, "tf32x3": 1.5 * 2.0**-20}
# C, O, cg, co, M, ReLU: panels of one slab and of more than the ring has, tiles not full, rows aligned or not, spans,
# channels that no filter reads
PROBLEMS = [
    (70, 37, 1, 0.5, 20, False),
    (40, 33, 8, 0.25, 37, True),
    (48, 20, 2, 0.5, 70, False),
    (64, 9, 4, 0.6, 41, True),
    (7, 40, 1, 0.9, 1, False),
    (70, 3, 7, 0.9, 40, False),
]


def operands(windows, columns, seed=0):
    """x (C, M), weight (O, K), bias (O,) and dy (O, M)."""
    random = np.random.default_rng(seed)
    C, O, K = windows.in_channels, windows.out_channels, windows.width
    return [random.standard_normal(size).astype(np.float32) for size in ((C, columns), (O, K), (O,), (O, columns))]


def scattered(weight, windows):
    """weight (O, K) as a float64 matrix (O, C)."""
    matrix = np.zeros((windows.out_channels, windows.in_channels))
    matrix[np.arange(windows.out_channels)[:, None], windows.channels()] = weight
    return matrix


def run(windows, variant, x, weight, bias, dy, relu=False):
    """y, dx and dweight; NaN where nothing was written."""
    y, dx, dweight = np.full_like(dy, np.nan), np.full_like(x, np.nan), np.full_like(weight, np.nan)
    scc_tensor.forward(x, weight, bias, y, windows, relu, variant)
    scc_tensor.backward_input(dy, weight, dx, windows, variant)
    scc_tensor_band.backward_weight(dy, x, dweight, windows, variant)
    return y, dx, dweight


def expected(windows, x, weight, bias, dy, relu=False):
    matrix = scattered(weight, windows)
    y = matrix @ x + bias[:, None]
    dweight = np.take_along_axis(dy.astype(np.float64) @ x.T, windows.channels().astype(np.int64), axis=1)
    return np.maximum(y, 0) if relu else y, matrix.T @ dy, dweight


# C, O, cg, co, M: short sums that cancel, whose errors are more than 1e-3 of the largest result.
CANCELLING = [(2, 17, 2, 0.1, 10), (1, 1, 1, 0, 33), (33, 7, 3, 0.66, 5)]


@pytest.mark.parametrize("problem", CANCELLING)
@pytest.mark.parametrize("variant", scc_tensor.SHAPES)
def test_every_result_is_within_the_rounding_of_its_operands(variant, problem):
    *settings, columns = problem
    windows = ChannelWindows.sliding(*settings)
    x, weight, bias, dy = operands(windows, columns)
    got = run(windows, variant, x, weight, 0 * bias, dy)
    want = expected(windows, x, weight, 0 * bias, dy)
    sizes = expected(windows, *map(np.abs, (x, weight, 0 * bias, dy)))
    # A little for the sums, in float32.
    share = 1.01 * SHARES[scc_tensor.SHAPES[variant].operands]
    for name, y, right, size in zip(("y", "dx", "dweight"), got, want, sizes):
        assert (abs(y - right) <= share * size).all(), name


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("variant", scc_tensor.SHAPES)
def test_values(variant, problem):
    *settings, columns, relu = problem
    windows = ChannelWindows.sliding(*settings)
    inputs = operands(windows, columns)
    for name, got, want in zip(
        ("y", "dx", "dweight"), run(windows, variant, *inputs, relu), expected(windows, *inputs, relu)
    ):
        assert_close(name, got, want, ROUNDING[variant])


# One span and several, rows of dy that a slab has not as a whole, filters that fill no tile.
@pytest.mark.parametrize("filters, columns", [(6, 16), (37, 69)])
@pytest.mark.parametrize("variant", scc_tensor.SHAPES)
def test_dbias_comes_with_dweight_and_leaves_its_bits(variant, filters, columns):
    windows = ChannelWindows.sliding(8, filters, 2, 0.5)
    x, weight, bias, dy = operands(windows, columns)
    alone, dweight, dbias = (np.full_like(each, np.nan) for each in (weight, weight, bias))
    scc.backward(dy, x, None, None, alone, None, windows, weight_variant=variant)
    scc.backward(dy, x, None, None, dweight, dbias, windows, weight_variant=variant)
    np.testing.assert_array_equal(dweight, alone)
    np.testing.assert_allclose(dbias, dy.sum(axis=1, dtype=np.float64), rtol=1e-5, atol=1e-6 * columns)


@pytest.mark.parametrize("variant", scc_tensor.SHAPES)
def test_weights_that_saw_no_column_have_no_gradient(variant):
    windows = ChannelWindows.sliding(8, 6, 2, 0.5)
    x, weight, bias, dy = operands(windows, 0)
    scc.backward(dy, x, None, None, weight, bias, windows, weight_variant=variant)
    assert not weight.any() and not bias.any()


@pytest.mark.parametrize("variant", scc_tensor.SHAPES)
def test_two_runs_have_the_same_bits(variant):
    windows = ChannelWindows.sliding(24, 20, 2, 0.5)
    inputs = operands(windows, 40)
    for first, second in zip(run(windows, variant, *inputs), run(windows, variant, *inputs)):
        np.testing.assert_array_equal(first, second)


@pytest.mark.slow
# tf32x3_64x64 has the tiles of tf32_64x64 and the products of tf32x3_32x128.
@pytest.mark.parametrize(
    "number, variant", list(enumerate(name for name in scc_tensor.GPU_SHAPES if name != "tf32x3_64x64"))
)
def test_the_tiles_of_a_gpu(number, variant, monkeypatch):
    # Rows are copied by 16 bytes or by 4, whatever the tile.
    columns = 132 - number % 2
    tiles, band = scc_tensor.GPU_SHAPES[variant], scc_tensor_band.GPU_SHAPES[variant]
    monkeypatch.setitem(scc_tensor.SHAPES, variant, tiles)
    monkeypatch.setitem(scc_tensor.CONTRACT, variant, scc_tensor.contraction(variant, tiles))
    monkeypatch.setitem(scc_tensor_band.SHAPES, variant, band)
    monkeypatch.setitem(scc_tensor_band.BAND, band, scc_tensor_band.band_kernel(band))
    scc_tensor_band.spans_of.cache_clear()
    windows = ChannelWindows.sliding(50, 66, 1, 0.5)
    inputs = operands(windows, columns)
    for name, got, want in zip(("y", "dx", "dweight"), run(windows, variant, *inputs), expected(windows, *inputs)):
        assert_close(name, got, want, ROUNDING[variant])
    scc_tensor_band.spans_of.cache_clear()


@pytest.mark.parametrize("variant", [name for name in scc_tensor.SHAPES if name.startswith("tf32x3")])
def test_weights_that_stay_and_weights_that_come_anew_give_the_same_bits(variant, monkeypatch):
    # More slabs than the ring has, and more spans than blocks.
    shape = scc_tensor.SHAPES[variant]
    windows = ChannelWindows.sliding(scc_tensor.STAGES * shape.depth + 1, 9, 1, 0.5)
    x, weight, bias, dy = operands(windows, shape.blocks * shape.columns + 1)
    results = []
    for room in (1 << 30, 0):
        monkeypatch.setattr(launch, "shared_memory", lambda like, room=room: room)
        results.append(np.full_like(dy, np.nan))
        scc_tensor.forward(x, weight, bias, results[-1], windows, False, variant)
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("variant", scc_tensor.SHAPES)
def test_rows_that_do_not_begin_at_16_bytes(variant):
    windows = ChannelWindows.sliding(8, 6, 2, 0.5)
    x, weight, bias, dy = operands(windows, 12)
    shifted = [np.empty(each.size + 1, np.float32)[1:].reshape(each.shape) for each in (x, dy)]
    shifted[0][:], shifted[1][:] = x, dy
    for got, want in zip(
        run(windows, variant, shifted[0], weight, bias, shifted[1]), run(windows, variant, x, weight, bias, dy)
    ):
        np.testing.assert_array_equal(got, want)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("variant", scc_tensor.SHAPES)
def test_nan_and_infinities_come_through(variant):
    # What infinity less itself leaves has a sign of its own on a GPU, which TF32x3 builds on; tests/gpu looks there.
    infinities = not variant.startswith("tf32x3")
    scc_specials.check(variant, scc_tensor.forward, np.asarray, np.asarray, infinities)


@pytest.fixture
def precision():
    yield sccengine.set_matmul_precision
    sccengine.set_matmul_precision("highest")


def layer(dtype=np.float32, between=lambda: None):
    """y, dx, dweight of one sliding-channel convolution; `between` is called after its forward."""
    random = np.random.default_rng(1)
    x, weight = random.standard_normal((2, 8, 2, 3)).astype(dtype), random.standard_normal((6, 4)).astype(dtype)
    x, weight = (Tensor(each, requires_grad=True, device="simulator") for each in (x, weight))
    y = F.scc(x, weight, groups=2, overlap=0.5)
    between()
    y.backward(Tensor(random.standard_normal(y.shape).astype(dtype), device="simulator"))
    return y.numpy(), x.grad.numpy(), weight.grad.numpy()


@pytest.mark.parametrize("setting, rounding", [("high", "tf32"), ("medium", "bf16")])
def test_the_precision_set_at_forward_decides_for_the_node(setting, rounding, precision):
    full = layer()
    precision(setting)
    rounded = layer()
    kept = layer(between=lambda: precision("highest"))
    back = layer()
    for name, want, got, same, again in zip(("y", "dx", "dweight"), full, rounded, kept, back):
        error = np.abs(got - want).max() / np.abs(want).max()
        assert TOLERANCES["float32"].relative < error < TOLERANCES[rounding].relative, f"{name}: {error:.1e}"
        np.testing.assert_array_equal(got, same)
        np.testing.assert_array_equal(want, again)


def test_float64_is_left_alone(precision):
    full = layer(np.float64)
    precision("medium")
    for got, want in zip(layer(np.float64), full):
        np.testing.assert_array_equal(got, want)


def test_a_gpu_without_tensor_cores_for_it_computes_in_full_precision(monkeypatch, precision):
    monkeypatch.setattr(launch, "capability", lambda like: (7, 5))
    monkeypatch.setattr(tuning, "_choices", tuning.Choices())  # not those made on a device that has tensor cores
    full = layer()
    precision("high")
    for got, want in zip(layer(), full):
        np.testing.assert_array_equal(got, want)
    x, weight = (Tensor(np.ones(shape, np.float32), device="simulator") for shape in ((1, 8, 1, 1), (6, 4)))
    with pytest.raises(
        RuntimeError, match=r"scc: variant 'tf32_64x128' needs compute capability 8\.0 or higher, .* 7\.5"
    ):
        F.scc(x, weight, groups=2, overlap=0.5, variant="tf32_64x128")


def test_a_rounding_variant_takes_float32_only():
    x, weight = (Tensor(np.ones(shape), device="simulator") for shape in ((1, 8, 1, 1), (6, 4)))
    with pytest.raises(ValueError, match="variant 'bf16_64x128' computes in float32, the input is float64"):
        F.scc(x, weight, groups=2, overlap=0.5, variant="bf16_64x128")


def test_what_is_chosen_rounds_as_far_as_allowed_and_no_farther():
    windows = ChannelWindows.sliding(64, 64, 2, 0.5)
    like = np.zeros((64, 1 << 16), np.float32)
    for launcher in tuning.LAUNCHERS:
        for allowed in ("highest", "high", "medium"):
            assert scc.VARIANTS[scc.choose(launcher, windows, like, allowed)].precision == allowed
        assert scc.choose(launcher, windows, like.astype(np.float64), "high") == scc.DEFAULT
