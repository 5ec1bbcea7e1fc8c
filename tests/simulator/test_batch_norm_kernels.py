"""Batch norm's kernels where it is hard: large means, constant channels, rows of every length and alignment, pieces."""

import numpy as np
import pytest

from sccengine.gradcheck import assert_close
from sccengine.kernels.cpu import batch_norm as cpu
from sccengine.kernels.cuda import batch_norm, row_pieces
from tests.simulator.placement import PLACES

EPS = 1e-5


def train(kernels, x, residual=None, weight=None, bias=None, running=(None, None, None), momentum=0.1, relu=False):
    """y, mean (2, C) and var of a training forward."""
    channels = x.shape[0]
    weight = np.ones(channels, x.dtype) if weight is None else weight
    bias = np.zeros(channels, x.dtype) if bias is None else bias
    y, mean, var = np.full_like(x, np.nan), np.full((2, channels), np.nan, x.dtype), np.full(channels, np.nan, x.dtype)
    kernels.forward_training(x, weight, bias, residual, y, mean, var, *running, momentum, EPS, relu)
    return y, mean, var


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("mean, deviation", [(1e4, 1.0), (1e6, 1.0), (-3e-3, 1e-6)])
@pytest.mark.parametrize("length", [2, 7, 16, 1203])
def test_statistics_of_a_large_mean(length, mean, deviation, place):
    x = place((mean + deviation * np.random.default_rng(length).standard_normal((2, length))).astype(np.float32))
    y, mean, var = train(batch_norm, x)
    exact = x.astype(np.float64)
    centre, variance = exact.mean(axis=1), exact.var(axis=1)
    np.testing.assert_allclose(mean[0], centre, rtol=1.2e-7)
    np.testing.assert_allclose(mean.astype(np.float64).sum(axis=0), centre, rtol=1e-12, atol=1e-6 * deviation)
    np.testing.assert_allclose(var, variance, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(y, (exact - centre[:, None]) / np.sqrt(variance + EPS)[:, None], atol=2e-5)


@pytest.mark.parametrize("place", PLACES)
def test_a_first_element_far_from_all_others_costs_few_digits(place):
    x = (1e4 + np.random.default_rng(0).standard_normal((1, 4000))).astype(np.float32)
    x[0, 0] = 0
    x[0, 1:] = x[0, 1:] * np.float32(1e-4)  # mean 1, deviation 1e-4; the first is 1e4 deviations away
    _, mean, var = train(batch_norm, place(x))
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean[0], exact.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(var, exact.var(axis=1), rtol=1e-5)


@pytest.mark.parametrize("length", [2, 5, 37, 64])
def test_a_constant_channel_has_no_variance(length):
    x = np.full((1, length), 1e6 / 3, np.float32)
    y, mean, var = train(batch_norm, x, bias=np.ones(1, np.float32), relu=True)
    assert mean[0, 0] == x[0, 0] and mean[1, 0] == 0
    assert var[0] == 0
    np.testing.assert_array_equal(y, 1)


SHAPES = [(1, 1), (3, 2), (2, 6), (1, 127), (3, 128), (5, 97), (9, 1), (2, 200)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("place", PLACES)
def test_all_launchers_agree_with_the_cpu(shape, place):
    random = np.random.default_rng(shape)
    x, residual, dy = (place(random.standard_normal(shape)) for _ in range(3))
    weight, bias = random.standard_normal((2, shape[0]))
    for relu in (False, True):
        for with_residual in (False, True):
            added = residual if with_residual else None
            results = [
                _run(kernels, x, added, dy, weight, bias, relu, training)
                for training in (True, False)
                for kernels in (batch_norm, cpu)
            ]
            for got, want in zip(results[::2], results[1::2]):
                for name in got:
                    assert_close(name, got[name], want[name], "float64")


def _run(kernels, x, residual, dy, weight, bias, relu, training):
    channels = x.shape[0]
    running_mean, running_var = np.full(channels, 0.3), np.full(channels, 1.4)
    batches = np.array(6)
    if training:
        running = (running_mean, running_var, batches)
        y, mean, var = train(kernels, x, residual, weight, bias, running, 0.2, relu)
    else:
        y, mean, var = np.full_like(x, np.nan), running_mean, running_var
        kernels.forward_inference(x, weight, bias, mean, var, residual, y, EPS, relu)
    kept = y if relu and residual is not None else None
    dx, dresidual = np.full_like(x, np.nan), np.full_like(x, np.nan)
    dweight, dbias = np.full(channels, np.nan), np.full(channels, np.nan)
    backward = kernels.backward_training if training else kernels.backward_inference
    given = (dy, x, kept, weight, bias, mean, var)
    backward(*given, dx, dresidual if kept is not None else None, dweight, dbias, EPS, relu)
    alone = np.full_like(x, np.nan)
    backward(*given, alone, None, np.empty(channels), np.empty(channels), EPS, relu)
    np.testing.assert_array_equal(alone, dx)
    result = {"y": y, "dx": dx, "dweight": dweight, "dbias": dbias, "running_mean": running_mean}
    result |= {"running_var": running_var, "batches": batches}
    return result | ({"dresidual": dresidual} if kept is not None else {})


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("length", [6, 100])
def test_running_averages_are_of_all_batches(length, place):
    batches = np.zeros((), np.int64)
    running = np.full(3, 7.0), np.full(3, 7.0)
    data = np.random.default_rng(0).standard_normal((4, 3, length))
    for number, x in enumerate(data, 1):
        train(batch_norm, place(x), running=(*running, batches), momentum=None)
        np.testing.assert_allclose(running[0], data[:number].mean((0, 2)), rtol=1e-12)
        np.testing.assert_allclose(running[1], data[:number].var(2, ddof=1).mean(0), rtol=1e-12)
        assert batches == number


def test_the_cases_here_take_one_piece_and_several():
    pieces = {row_pieces.cut(*shape)[0] for shape in SHAPES}
    assert 1 in pieces and 2 in pieces and max(pieces) > 2


def test_a_row_is_cut_by_its_shape_alone_and_wholly():
    for rows, length in [(1, 1), (64, 131072), (3, 10**6 + 1), (2048, 10**6), (1, 2**31 - 1), (512, 16)]:
        pieces, span, threads = row_pieces.cut(rows, length)
        assert span % 4 == 0 and (pieces - 1) * span < length <= pieces * span
        assert 1 <= pieces <= row_pieces.MOST_PIECES
        assert threads % 32 == 0 and threads <= row_pieces.MOST_THREADS
