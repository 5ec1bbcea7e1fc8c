"""Batch normalisation: values, gradients, running statistics, fused residual and ReLU, bad inputs, the layer."""

import numpy as np
import pytest

import sccengine.functional as F
from sccengine import nn
from sccengine.autograd import Tensor
from sccengine.gradcheck import check_gradients
from tests.checks import batch_norm as checks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", checks.CASES, ids=str)
def test_matches_reference(case, dtype):
    checks.check("cpu", case, dtype)


def _inputs():
    random = np.random.default_rng(0)
    return [random.standard_normal(s) for s in ((3, 2, 4, 2), (2,), (2,))]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_residual", [False, True])
def test_gradcheck(training, relu, with_residual):
    mean, var = np.array([0.3, -0.2]), np.array([1.5, 0.7])
    residual = [np.random.default_rng(1).standard_normal((3, 2, 4, 2))] if with_residual else []

    def operator(x, weight, bias, residual=None):
        return F.batch_norm(x, mean.copy(), var.copy(), weight, bias, training, relu=relu, residual=residual)

    check_gradients(operator, _inputs() + residual)


def test_a_residual_that_is_the_input_itself():
    check_gradients(lambda x: F.batch_norm(x, None, None, training=True, relu=True, residual=x), _inputs()[:1])


@pytest.mark.parametrize("relu", [False, True])
def test_a_residual_that_needs_no_gradient(relu):
    x, weight, bias = (Tensor(array, requires_grad=True) for array in _inputs())
    twins = [Tensor(t.numpy().copy(), requires_grad=True) for t in (x, weight, bias)]
    residual = np.random.default_rng(1).standard_normal(x.shape)
    F.batch_norm(x, None, None, weight, bias, True, relu=relu, residual=residual).backward(Tensor(residual))
    y = F.add(F.batch_norm(twins[0], None, None, *twins[1:], True), residual)
    (F.relu(y) if relu else y).backward(Tensor(residual))
    for tensor, twin in zip((x, weight, bias), twins):
        np.testing.assert_allclose(tensor.grad.numpy(), twin.grad.numpy(), rtol=1e-12, atol=1e-14)


def test_without_weight_and_bias():
    x = _inputs()[0]
    y = F.batch_norm(x, None, None, training=True).numpy()
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-15)
    np.testing.assert_allclose(y.var((0, 2, 3)), 1, rtol=1e-4)
    check_gradients(lambda x: F.batch_norm(x, None, None, training=True), [x])


def test_large_mean_keeps_its_digits():
    x = 1000 + np.random.default_rng(3).standard_normal((16, 1, 8, 8)).astype(np.float32)
    y = F.batch_norm(x, None, None, training=True).numpy()
    want = (x - x.astype(np.float64).mean()) / np.sqrt(x.astype(np.float64).var() + 1e-5)
    np.testing.assert_allclose(y, want, atol=2e-4)


def test_a_row_that_begins_far_off_its_mean():
    x = 100 + np.random.default_rng(8).standard_normal((16, 2, 64, 64))
    x[:, 0, :1] = -1000
    x[0, 1, 40, 3] = np.nan
    mean, var = np.zeros(2, np.float32), np.zeros(2, np.float32)
    F.batch_norm(Tensor(x.astype(np.float32)), mean, var, training=True, momentum=1.0)
    np.testing.assert_allclose(mean, x.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(var, x.var((0, 2, 3), ddof=1), rtol=1e-5)


def test_any_memory_order_gives_the_same():
    x, weight, bias = _inputs()
    want = F.batch_norm(x, None, None, weight, bias, True).numpy()
    for array in (np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(F.batch_norm(array, None, None, weight, bias, True).numpy(), want)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"x": np.zeros((1, 2, 1, 1))}, ValueError, r"needs more than 1 value per channel, got .*\(1, 2, 1, 1\)"),
        ({"weight": np.zeros(3)}, ValueError, r"batch_norm: weight must have shape \(2,\), got \(3,\)"),
        ({"running_var": np.zeros(3)}, ValueError, r"batch_norm: running_var must have shape \(2,\), got \(3,\)"),
        ({"bias": np.zeros(2, np.float32)}, TypeError, "batch_norm: bias is float32 but the input is float64"),
        ({"residual": np.zeros((3, 2, 4, 1))}, ValueError, r"batch_norm: residual must have shape \(3, 2, 4, 2\)"),
        ({"residual": np.zeros((3, 2, 4, 2), np.float32)}, TypeError, "residual is float32 but the input is float64"),
        ({"running_mean": np.zeros(4)[::2]}, ValueError, "running_mean is updated in place, so it must be contiguous"),
        ({"num_batches_tracked": 3}, TypeError, "num_batches_tracked must be an array or None, got int"),
        ({"num_batches_tracked": np.zeros(2, np.int64)}, ValueError, r"must be one int64, got shape \(2,\)"),
        ({"num_batches_tracked": np.zeros(())}, ValueError, "must be one int64, got shape .* float64"),
        ({"running_var": None}, ValueError, "give both running_mean and running_var, or neither"),
        ({"eps": 0.0}, ValueError, "batch_norm: eps must be a finite number above 0, got 0.0"),
        ({"eps": np.inf}, ValueError, "batch_norm: eps must be a finite number above 0, got inf"),
        ({"momentum": None}, TypeError, "batch_norm: momentum must be a number, got None"),
        ({"momentum": 1.5}, ValueError, r"batch_norm: momentum must lie in \[0, 1\], got 1.5"),
        (
            {"running_mean": None, "running_var": None, "training": False},
            ValueError,
            "running_mean and running_var are needed where training=False",
        ),
    ],
)
def test_bad_inputs(change, error, message):
    x, weight, bias = _inputs()
    settings = {"x": x, "running_mean": np.zeros(2), "running_var": np.ones(2), "weight": weight, "bias": bias}
    with pytest.raises(error, match=message):
        F.batch_norm(**{**settings, "training": True, **change})


def test_layer_tracks_statistics_in_training_only():
    layer = nn.BatchNorm2d(3, momentum=0.25)
    x = np.random.default_rng(1).standard_normal((4, 3, 5, 5)).astype(np.float32) + 2
    layer(x)
    np.testing.assert_allclose(layer.running_mean, 0.25 * x.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(layer.running_var, 0.75 + 0.25 * x.var((0, 2, 3), ddof=1), rtol=1e-5)
    before = layer.state_dict()
    layer.eval()(x)
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert before["num_batches_tracked"].dtype == np.int64 and before["num_batches_tracked"] == 1


def test_layer_with_momentum_none_averages_all_batches():
    layer = nn.BatchNorm2d(3, momentum=None)
    batches = np.random.default_rng(1).standard_normal((5, 4, 3, 5, 5)).astype(np.float32)
    for batch in batches:
        layer(batch)
    np.testing.assert_allclose(layer.running_mean, batches.mean((0, 1, 3, 4)), atol=1e-6)
    assert layer.num_batches_tracked == 5


def test_layer_with_a_residual_is_the_layer_then_the_sum_then_relu():
    x, shortcut = np.random.default_rng(1).standard_normal((2, 4, 3, 5, 5)).astype(np.float32)
    fused, plain = nn.BatchNorm2d(3, relu=True), nn.BatchNorm2d(3)
    for mode in ("train", "eval"):
        inputs = [Tensor(array.copy(), requires_grad=True) for array in (x, shortcut, x, shortcut)]
        outputs = [
            getattr(fused, mode)()(*inputs[:2]),
            F.relu(F.add(getattr(plain, mode)()(inputs[2]), inputs[3])),
        ]
        for y in outputs:
            y.backward(Tensor(x))
        np.testing.assert_allclose(outputs[0].numpy(), outputs[1].numpy(), atol=1e-6)
        for got, want in zip(inputs[:2], inputs[2:]):
            np.testing.assert_allclose(got.grad.numpy(), want.grad.numpy(), atol=1e-6)
    for name, array in fused.state_dict().items():
        np.testing.assert_array_equal(array, plain.state_dict()[name])


def test_layer_without_tracking_uses_the_batch_in_evaluation():
    layer = nn.BatchNorm2d(3, affine=False, track_running_stats=False).eval()
    x = np.random.default_rng(1).standard_normal((4, 3, 5, 5)).astype(np.float32) + 2
    assert abs(layer(x).numpy().mean()) < 1e-6
    assert layer.state_dict() == {} and list(layer.parameters()) == []


def test_layer_with_relu_is_the_layer_followed_by_relu():
    x = np.random.default_rng(1).standard_normal((4, 3, 5, 5)).astype(np.float32)
    fused, plain = nn.BatchNorm2d(3, relu=True), nn.BatchNorm2d(3)
    assert list(fused.state_dict()) == list(plain.state_dict())
    inputs = [Tensor(x.copy(), requires_grad=True) for _ in range(2)]
    outputs = [fused(inputs[0]), F.relu(plain(inputs[1]))]
    for y in outputs:
        y.backward(Tensor(x))
    np.testing.assert_array_equal(outputs[0].numpy(), outputs[1].numpy())
    np.testing.assert_allclose(inputs[0].grad.numpy(), inputs[1].grad.numpy(), atol=1e-6)


def test_layer_repr_keys_and_bad_settings():
    assert list(nn.BatchNorm2d(3).state_dict()) == [
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "num_batches_tracked",
    ]
    assert repr(nn.BatchNorm2d(3)) == "BatchNorm2d(3, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)"
    for settings, message in [
        ({"num_features": 0}, "BatchNorm2d: num_features must be at least 1, got 0"),
        ({"num_features": 3, "eps": 0}, "BatchNorm2d: eps must be a finite number above 0"),
        ({"num_features": 3, "eps": np.inf}, "BatchNorm2d: eps must be a finite number above 0"),
        ({"num_features": 3, "momentum": 2}, r"BatchNorm2d: momentum must lie in \[0, 1\], got 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            nn.BatchNorm2d(**settings)
