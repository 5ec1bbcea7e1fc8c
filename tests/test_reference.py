"""The oracles themselves: against PyTorch, finite differences, and SCC against a dense scattered 1x1."""

import ast
import inspect
import math
from fractions import Fraction

import numpy as np
import pytest

from sccengine import reference

CONV_CASES = [
    dict(shape=(2, 4, 5, 6), filters=6, kernel=(3, 3), stride=1, padding=1, groups=1),
    dict(shape=(1, 4, 7, 5), filters=4, kernel=(3, 2), stride=(2, 1), padding=(0, 1), groups=2),
    dict(shape=(2, 3, 6, 6), filters=6, kernel=(3, 3), stride=2, padding=1, groups=3),
    dict(shape=(3, 5, 1, 1), filters=5, kernel=(3, 3), stride=1, padding=1, groups=5),
    dict(shape=(2, 4, 4, 4), filters=2, kernel=(1, 1), stride=(3, 2), padding=0, groups=1),
]
POOL_CASES = [
    dict(shape=(2, 3, 6, 6), kernel=2, stride=None, padding=0),
    dict(shape=(2, 3, 7, 5), kernel=3, stride=2, padding=1),
    dict(shape=(1, 2, 5, 8), kernel=(3, 2), stride=(1, 3), padding=(1, 0)),
]
SCC_CASES = [
    dict(channels=8, filters=12, groups=2, overlap=0.5, stride=1),
    dict(channels=12, filters=5, groups=3, overlap=0.33, stride=1),
    dict(channels=10, filters=23, groups=1, overlap=0.29, stride=1),
    dict(channels=12, filters=9, groups=4, overlap=0.0, stride=2),
    dict(channels=16, filters=20, groups=2, overlap=0.9, stride=(1, 3)),
    dict(channels=6, filters=7, groups=6, overlap="1/3", stride=1),
]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="compares with PyTorch: pip install 'sccengine[test-torch]'")


def numerical_gradient(scalar, x, step=1e-6):
    gradient = np.zeros(x.shape)
    for index in np.ndindex(*x.shape):
        shifted = x.copy()
        shifted[index] = x[index] + step
        above = scalar(shifted)
        shifted[index] = x[index] - step
        gradient[index] = (above - scalar(shifted)) / (2 * step)
    return gradient


def assert_is_gradient(got, function, arguments, position, dy):
    """``got`` is the gradient of sum(dy * function(*arguments)) by the argument at ``position``."""

    def scalar(value):
        replaced = list(arguments)
        replaced[position] = value
        return float(np.sum(dy * function(*replaced)))

    np.testing.assert_allclose(got, numerical_gradient(scalar, arguments[position]), rtol=2e-6, atol=2e-7)


def assert_close(got, want):
    want = want.detach().numpy() if hasattr(want, "detach") else want
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11)


def leaf(torch, array):
    return torch.tensor(array, dtype=torch.float64, requires_grad=True)


def distinct_values(rng, shape):
    """All values at least 0.01 apart and none near 0 or 6, so that a finite step crosses no kink."""
    return ((rng.permutation(math.prod(shape)).reshape(shape) - math.prod(shape) // 2) + 0.37) * 0.1


def scc_arrays(rng, case):
    x = rng.standard_normal((2, case["channels"], 4, 5))
    weight = rng.standard_normal((case["filters"], case["channels"] // case["groups"]))
    bias = rng.standard_normal(case["filters"])
    return x, weight, bias


def test_imports_numpy_and_the_standard_library_only():
    imported = set()
    for node in ast.walk(ast.parse(inspect.getsource(reference))):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
            assert node.level == 0
    assert imported <= {"__future__", "fractions", "math", "numpy"}


# Sliding-channel convolution


def test_scc_windows_by_hand():
    assert reference.scc_windows(8, 6, 2, 0.5) == (4, [0, 2, 4, 6, 0, 2])
    assert reference.scc_windows(6, 4, 2, 0.0) == (3, [0, 3, 0, 3])
    assert reference.scc_windows(12, 5, 3, 0.33) == (4, [0, 3, 6, 9, 0])


@pytest.mark.parametrize("overlap", [0.29, "0.29", Fraction(29, 100), np.float32(0.29), np.float64(0.29)])
def test_scc_overlap_is_the_decimal_that_was_written(overlap):
    assert math.floor(0.29 * 100) == 28  # what binary floating point makes of it
    assert reference.scc_windows(100, 2, 1, overlap) == (100, [0, 71])


@pytest.mark.parametrize("case", SCC_CASES, ids=str)
def test_scc_is_a_dense_1x1_with_scattered_weights(rng, case):
    x, weight, bias = scc_arrays(rng, case)
    channels, width = case["channels"], weight.shape[1]
    shift = width - int(Fraction(str(case["overlap"])) * width)
    index = (np.arange(case["filters"])[:, None] * shift + np.arange(width)) % channels
    dense = np.zeros((case["filters"], channels))
    np.put_along_axis(dense, index, weight, axis=1)
    sh, sw = np.broadcast_to(case["stride"], 2)
    read = x[:, :, ::sh, ::sw]

    settings = (case["groups"], case["overlap"], case["stride"])
    y = reference.scc_forward(x, weight, bias, *settings)
    dy = rng.standard_normal(y.shape)
    dx, dweight, dbias = reference.scc_backward(dy, x, weight, *settings)
    want_dx = np.zeros_like(x)
    want_dx[:, :, ::sh, ::sw] = np.einsum("oc,nohw->nchw", dense, dy)

    assert_close(y, np.einsum("oc,nchw->nohw", dense, read) + bias[:, None, None])
    assert_close(dx, want_dx)
    assert_close(dweight, np.take_along_axis(np.einsum("nohw,nchw->oc", dy, read), index, axis=1))
    assert_close(dbias, np.einsum("nohw->o", dy))


def test_scc_with_one_group_and_no_overlap_is_a_pointwise_convolution(rng):
    x, weight = rng.standard_normal((2, 5, 3, 3)), rng.standard_normal((4, 5))
    want = reference.conv2d_forward(x, weight[:, :, None, None], None)
    assert_close(reference.scc_forward(x, weight, None, 1, 0.0), want)


def test_scc_accepts_features_without_pixels(rng):
    x, weight = rng.standard_normal((3, 8)), rng.standard_normal((6, 4))
    y = reference.scc_forward(x, weight, None, 2, 0.5)
    assert_close(y, reference.scc_forward(x[:, :, None, None], weight, None, 2, 0.5)[:, :, 0, 0])


def test_scc_finite_differences(rng):
    x, weight, bias = rng.standard_normal((2, 6, 2, 2)), rng.standard_normal((5, 3)), rng.standard_normal(5)
    settings = (2, 0.33, (1, 2))
    dy = rng.standard_normal((2, 5, 2, 1))
    gradients = reference.scc_backward(dy, x, weight, *settings)
    for position, gradient in enumerate(gradients):
        assert_is_gradient(gradient, reference.scc_forward, (x, weight, bias, *settings), position, dy)


# Spatial convolution and the linear layer


def conv_arrays(rng, case):
    weight = rng.standard_normal((case["filters"], case["shape"][1] // case["groups"], *case["kernel"]))
    bias = rng.standard_normal(case["filters"])
    return rng.standard_normal(case["shape"]), weight, bias, (case["stride"], case["padding"], case["groups"])


@pytest.mark.parametrize("case", CONV_CASES, ids=str)
def test_conv2d_against_torch(torch, rng, case):
    x, weight, bias, (stride, padding, groups) = conv_arrays(rng, case)
    leaves = [leaf(torch, a) for a in (x, weight, bias)]
    want = torch.nn.functional.conv2d(*leaves, stride=stride, padding=padding, groups=groups)
    dy = rng.standard_normal(want.shape)
    want.backward(torch.tensor(dy))
    assert_close(reference.conv2d_forward(x, weight, bias, stride, padding, groups), want)
    for got, wanted in zip(reference.conv2d_backward(dy, x, weight, stride, padding, groups), leaves):
        assert_close(got, wanted.grad)


@pytest.mark.parametrize("case", CONV_CASES[1:3], ids=str)
def test_conv2d_finite_differences(rng, case):
    x, weight, bias, settings = conv_arrays(rng, case)
    dy = rng.standard_normal(reference.conv2d_forward(x, weight, bias, *settings).shape)
    for position, gradient in enumerate(reference.conv2d_backward(dy, x, weight, *settings)):
        assert_is_gradient(gradient, reference.conv2d_forward, (x, weight, bias, *settings), position, dy)


def test_linear(rng):
    x, weight, bias = rng.standard_normal((3, 5)), rng.standard_normal((4, 5)), rng.standard_normal(4)
    dy = rng.standard_normal((3, 4))
    assert_close(reference.linear_forward(x, weight, bias), np.einsum("ni,oi->no", x, weight) + bias)
    for position, gradient in enumerate(reference.linear_backward(dy, x, weight)):
        assert_is_gradient(gradient, reference.linear_forward, (x, weight, bias), position, dy)


# Batch normalisation


@pytest.mark.parametrize("shape", [(3, 4, 2, 5), (6, 3)])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_against_torch(torch, rng, shape, training):
    x = rng.standard_normal(shape) * 3 + 1
    weight, bias = rng.standard_normal(shape[1]), rng.standard_normal(shape[1])
    mean, var = rng.standard_normal(shape[1]), rng.random(shape[1]) + 0.1
    leaves = [leaf(torch, a) for a in (x, weight, bias)]
    running = (torch.tensor(mean), torch.tensor(var))
    want = torch.nn.functional.batch_norm(leaves[0], *running, *leaves[1:], training, 0.1, 1e-3)
    dy = rng.standard_normal(shape)
    want.backward(torch.tensor(dy))
    if training:
        y, got_mean, got_var = reference.batch_norm_training_forward(x, weight, bias, 1e-3)
        gradients = reference.batch_norm_training_backward(dy, x, weight, 1e-3)
        count = x.size // shape[1]
        assert_close(0.9 * mean + 0.1 * got_mean, running[0])
        assert_close(0.9 * var + 0.1 * got_var * count / (count - 1), running[1])
    else:
        y = reference.batch_norm_inference_forward(x, weight, bias, mean, var, 1e-3)
        gradients = reference.batch_norm_inference_backward(dy, x, weight, mean, var, 1e-3)
    assert_close(y, want)
    for got, wanted in zip(gradients, leaves):
        assert_close(got, wanted.grad)


def test_batch_norm_finite_differences(rng):
    x, weight, bias = rng.standard_normal((3, 2, 2, 2)), rng.standard_normal(2), rng.standard_normal(2)
    mean, var = rng.standard_normal(2), rng.random(2) + 0.1
    dy = rng.standard_normal(x.shape)

    def training(*arguments):
        return reference.batch_norm_training_forward(*arguments)[0]

    for position, gradient in enumerate(reference.batch_norm_training_backward(dy, x, weight)):
        assert_is_gradient(gradient, training, (x, weight, bias), position, dy)
    for position, gradient in enumerate(reference.batch_norm_inference_backward(dy, x, weight, mean, var)):
        arguments = (x, weight, bias, mean, var)
        assert_is_gradient(gradient, reference.batch_norm_inference_forward, arguments, position, dy)


# Activations, pooling, and the operators that only move or add numbers


def test_relu_at_its_kinks():
    x = np.array([-1.0, 0.0, 3.0, 6.0, 7.0, np.nan])
    np.testing.assert_array_equal(reference.relu_forward(x), [0, 0, 3, 6, 7, np.nan])
    np.testing.assert_array_equal(reference.relu_forward(x, 6.0), [0, 0, 3, 6, 6, np.nan])
    np.testing.assert_array_equal(reference.relu_backward(np.ones(6), x)[:5], [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(reference.relu_backward(np.ones(6), x, 6.0)[:5], [0, 0, 1, 0, 0])


@pytest.mark.parametrize("name", ["relu", "relu6"])
def test_relu_against_torch(torch, rng, name):
    ceiling = {"relu": math.inf, "relu6": 6.0}[name]
    x = np.concatenate([rng.standard_normal(40) * 5, [0.0, 6.0]])
    want_x = leaf(torch, x)
    want = getattr(torch.nn.functional, name)(want_x)
    dy = rng.standard_normal(x.shape)
    want.backward(torch.tensor(dy))
    assert_close(reference.relu_forward(x, ceiling), want)
    assert_close(reference.relu_backward(dy, x, ceiling), want_x.grad)


@pytest.mark.parametrize("case", POOL_CASES, ids=str)
@pytest.mark.parametrize("ties", [False, True])
def test_max_pool2d_against_torch(torch, rng, case, ties):
    settings = (case["kernel"], case["stride"], case["padding"])
    x = rng.integers(0, 3, case["shape"]).astype(float) if ties else rng.standard_normal(case["shape"])
    x[0, 0, 0, 1] = np.nan
    want_x = leaf(torch, x)
    want, want_indices = torch.nn.functional.max_pool2d(want_x, *settings, return_indices=True)
    dy = rng.standard_normal(want.shape)
    want.backward(torch.tensor(dy))
    y, indices = reference.max_pool2d_forward(x, *settings)
    assert_close(y, want)
    np.testing.assert_array_equal(indices, want_indices.numpy())
    assert_close(reference.max_pool2d_backward(dy, x, *settings), want_x.grad)


@pytest.mark.parametrize("case", POOL_CASES, ids=str)
def test_avg_pool2d_against_torch(torch, rng, case):
    settings = (case["kernel"], case["stride"], case["padding"])
    x = rng.standard_normal(case["shape"])
    want_x = leaf(torch, x)
    want = torch.nn.functional.avg_pool2d(want_x, *settings)
    dy = rng.standard_normal(want.shape)
    want.backward(torch.tensor(dy))
    assert_close(reference.avg_pool2d_forward(x, *settings), want)
    assert_close(reference.avg_pool2d_backward(dy, x.shape, *settings), want_x.grad)


@pytest.mark.parametrize("case", POOL_CASES, ids=str)
def test_pooling_finite_differences(rng, case):
    settings = (case["kernel"], case["stride"], case["padding"])
    x = distinct_values(rng, case["shape"])

    def max_pool(*arguments):
        return reference.max_pool2d_forward(*arguments)[0]

    dy = rng.standard_normal(max_pool(x, *settings).shape)
    dx = reference.max_pool2d_backward(dy, x, *settings)
    assert_is_gradient(dx, max_pool, (x, *settings), 0, dy)
    dx = reference.avg_pool2d_backward(dy, x.shape, *settings)
    assert_is_gradient(dx, reference.avg_pool2d_forward, (x, *settings), 0, dy)


def test_global_avg_pool2d(rng):
    x, dy = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((2, 3))
    assert_close(reference.global_avg_pool2d_forward(x), x.mean(axis=(2, 3)))
    dx = reference.global_avg_pool2d_backward(dy, x.shape)
    assert_is_gradient(dx, reference.global_avg_pool2d_forward, (x,), 0, dy)


def test_channel_shuffle(rng):
    x = np.arange(6.0).reshape(1, 6, 1, 1)
    np.testing.assert_array_equal(reference.channel_shuffle_forward(x, 2).ravel(), [0, 3, 1, 4, 2, 5])
    dy = rng.standard_normal((2, 6, 2, 3))
    dx = reference.channel_shuffle_backward(dy, 3)
    assert_is_gradient(dx, reference.channel_shuffle_forward, (rng.standard_normal(dy.shape), 3), 0, dy)


def test_channel_shuffle_against_torch(torch, rng):
    x = rng.standard_normal((2, 12, 2, 3))
    want = torch.nn.functional.channel_shuffle(torch.tensor(x), 3)
    assert_close(reference.channel_shuffle_forward(x, 3), want)


def test_dropout_uses_splitmix64_in_batch_last_order():
    # The first outputs of splitmix64 seeded with 0, as published with the generator.
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]
    uniforms = np.array([value >> 40 for value in published]) / 2**24
    for probability in (0.0, 0.3, 0.5, 0.9):
        mask = reference.dropout_mask((2, 2, 1, 1), probability, 0)
        np.testing.assert_array_equal(mask[:, :, 0, 0].T.ravel(), uniforms >= probability)


def test_dropout_scales_what_it_keeps(rng):
    x = rng.standard_normal((5, 4, 3, 3))
    key = 2**64 - 3
    mask = reference.dropout_mask(x.shape, 0.25, key)
    assert 0.6 < mask.mean() < 0.9
    assert_close(reference.dropout_forward(x, 0.25, key), x * mask / 0.75)
    assert_close(reference.dropout_backward(x, 0.25, key), x * mask / 0.75)


def test_scale(rng):
    x, dy = rng.standard_normal((2, 2, 3, 1, 2))
    assert_close(reference.scale_forward(x, -0.3), -0.3 * x)
    assert_is_gradient(reference.scale_backward(dy, -0.3), reference.scale_forward, (x, -0.3), 0, dy)


def test_add_and_flatten(rng):
    a, b = rng.standard_normal((2, 3, 2, 2)), rng.standard_normal((2, 3, 2, 2))
    assert_close(reference.add_forward(a, b), a + b)
    for gradient in reference.add_backward(a):
        assert_close(gradient, a)
    flat = reference.flatten_forward(a)
    assert flat.shape == (2, 12)
    assert flat[1, 5] == a[1, 1, 0, 1]
    assert_close(reference.flatten_backward(flat, a.shape), a)


# Loss and optimisers


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_against_torch(torch, rng, label_smoothing):
    logits, labels = rng.standard_normal((5, 4)) * 30, rng.integers(0, 4, 5)
    want_logits = leaf(torch, logits)
    target = torch.tensor(labels)
    want = torch.nn.functional.cross_entropy(want_logits, target, label_smoothing=label_smoothing)
    want.backward()
    assert_close(reference.cross_entropy_forward(logits, labels, label_smoothing), want)
    assert_close(reference.cross_entropy_backward(logits, labels, label_smoothing), want_logits.grad)


def test_cross_entropy_finite_differences(rng):
    logits, labels = rng.standard_normal((3, 4)), np.array([0, 3, 1])
    gradient = reference.cross_entropy_backward(logits, labels, 0.1)
    assert_is_gradient(gradient, reference.cross_entropy_forward, (logits, labels, 0.1), 0, 1.0)


@pytest.mark.parametrize("momentum, nesterov", [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_sgd_against_torch(torch, rng, momentum, nesterov, weight_decay):
    parameter, buffer = rng.standard_normal(6), None
    want = leaf(torch, parameter)
    settings = dict(lr=0.1, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
    optimizer = torch.optim.SGD([want], **settings)
    for _ in range(4):
        gradient = rng.standard_normal(6)
        want.grad = torch.tensor(gradient)
        optimizer.step()
        parameter, buffer = reference.sgd_update(parameter, gradient, buffer, **settings)
        assert_close(parameter, want)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adamw_against_torch(torch, rng, weight_decay):
    parameter, first, second = rng.standard_normal(6), np.zeros(6), np.zeros(6)
    want = leaf(torch, parameter)
    optimizer = torch.optim.AdamW([want], lr=0.1, betas=(0.8, 0.95), eps=1e-3, weight_decay=weight_decay)
    for step in range(1, 5):
        gradient = rng.standard_normal(6)
        want.grad = torch.tensor(gradient)
        optimizer.step()
        settings = dict(lr=0.1, beta1=0.8, beta2=0.95, eps=1e-3, weight_decay=weight_decay)
        state = reference.adamw_update(parameter, gradient, first, second, step, **settings)
        parameter, first, second = state
        assert_close(parameter, want)


@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_clip_grad_norm_against_torch(torch, rng, max_norm):
    gradients = [rng.standard_normal((3, 4)), rng.standard_normal(5)]
    leaves = [leaf(torch, np.zeros(g.shape)) for g in gradients]
    for parameter, gradient in zip(leaves, gradients):
        parameter.grad = torch.tensor(gradient)
    want_norm = torch.nn.utils.clip_grad_norm_(leaves, max_norm)
    clipped, norm = reference.clip_grad_norm(gradients, max_norm)
    assert_close(norm, want_norm)
    for got, wanted in zip(clipped, leaves):
        assert_close(got, wanted.grad)


def test_inputs_are_left_alone(rng):
    x, weight = rng.standard_normal((2, 4, 3, 3)), rng.standard_normal((6, 2))
    dy = rng.standard_normal((2, 6, 3, 3))
    before = [a.copy() for a in (x, weight, dy)]
    reference.scc_forward(x, weight, None, 2, 0.5)
    reference.scc_backward(dy, x, weight, 2, 0.5)
    reference.conv2d_backward(dy, x, rng.standard_normal((6, 4, 1, 1)))
    reference.flatten_forward(x)[...] = 0.0
    for array, kept in zip((x, weight, dy), before):
        np.testing.assert_array_equal(array, kept)
