"""Captured steps as real CUDA graphs: equal to eager ones to the bit, whatever else goes on around them."""

import gc

import numpy as np
import pytest

import sccengine as scc
import sccengine.functional as F
from sccengine import backend, models, nn
from sccengine.autograd import Tensor
from sccengine.kernels.cuda import launch
from tests.captured_steps import CLASSES, SHAPE, Run, assert_equal_to_the_bit, batch
from tests.training_run import assert_same_weights, fit_captured, rows_without_seconds, trainer

DEVICE = "cuda"


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "sgd"},
        {"optimizer": "adamw", "max_norm": 0.5, "label_smoothing": 0.1},
        {"optimizer": "sgd", "max_norm": 1e-3},
    ],
    ids=str,
)
def test_whole_steps_equal_eager_ones_to_the_bit(settings):
    assert_equal_to_the_bit(DEVICE, steps=20, **settings)


@pytest.mark.parametrize("name", ["dscnet", "resnet18", "mobilenet", "vgg16"])
def test_every_model_equals_its_eager_steps_to_the_bit(name):
    def model():
        return nn.Sequential(models.build(name, in_channels=3, num_classes=CLASSES), nn.Dropout(0.2))

    assert_equal_to_the_bit(DEVICE, steps=10, model=model, shape=(16, 3, 32, 32), label_smoothing=0.1)


def test_learning_rates_change_without_a_new_capture():
    def rates(run, number):
        for group in run.optimizer.param_groups:
            group["lr"] = [0.1, 0.0, 0.3, 0.02][number]

    assert_equal_to_the_bit(DEVICE, before_step=rates)


def test_dropout_draws_a_mask_for_every_replay():
    x = np.ones((2, 40), np.float32)
    backend.set_seed(1)
    captured = scc.capture_step(lambda x: F.dropout(x, 0.5), x, device=DEVICE)
    got = [captured(x).numpy().copy() for _ in range(50)]
    backend.set_seed(1)
    want = [F.dropout(Tensor(x, device=DEVICE), 0.5).numpy() for _ in range(50)]
    np.testing.assert_array_equal(got, want)


def test_the_host_runs_ahead_and_no_replay_reads_the_next_ones_inputs_or_numbers(cupy):
    """Inputs and host values are staged: rewriting them at once must not reach a replay that has yet to run."""
    run = Run(DEVICE)
    total = cupy.zeros(1, np.float32)

    def step(x):
        kernels = backend.kernels_for(total)
        numbers = backend.host_value(lambda: [run.count()], total, np.float32)
        kernels.add.forward(total, numbers, total)
        kernels.add.forward(total, x.array[:1], total)
        return x

    counted = iter(range(1, 1001))
    run.count = lambda: next(counted)
    x = np.zeros(1 << 20, np.float32)
    captured = scc.capture_step(step, x, device=DEVICE)
    for number in range(1000):
        x[0] = number % 7
        captured(x)
    assert total.item() == 1000 * 1001 / 2 + sum(number % 7 for number in range(1000))


def test_memory_of_the_graph_is_its_own(cupy):
    """What is allocated and written between replays must not lie where the graph keeps its arrays."""
    run, undisturbed = Run(DEVICE), Run(DEVICE)
    want = undisturbed.train(8, captured=False)
    captured = scc.capture_step(run.step, *batch(0), device=DEVICE)
    backend.set_random_state(run.random)
    got = []
    for number in range(8):
        outputs = captured(*batch(number))
        litter = [cupy.full(size, np.nan, np.float32) for size in (64, 512, 4096, 1 << 16, 1 << 20) for _ in range(8)]
        got.append(outputs["loss"].numpy().copy())
        del litter
        gc.collect()
        cupy.get_default_memory_pool().free_all_blocks()
        run.scheduler.step()
    assert [loss.tobytes() for loss in got] == [result["loss"].tobytes() for result in want]


@pytest.mark.parametrize("non_blocking", [True, False])
def test_captured_and_replayed_on_a_stream_of_the_users(cupy, non_blocking):
    eager = Run(DEVICE)
    want = eager.train(4, captured=False)
    stream = cupy.cuda.Stream(non_blocking=non_blocking)
    with stream:
        run = Run(DEVICE)
        got = run.train(4, captured=True)
    assert [r["loss"].tobytes() for r in got] == [r["loss"].tobytes() for r in want]
    assert not stream.is_capturing()


def test_two_graphs_are_alive_and_take_turns():
    first, second = Run(DEVICE), Run(DEVICE, optimizer="adamw", lr=0.01)
    want = [Run(DEVICE).train(6, False), Run(DEVICE, optimizer="adamw", lr=0.01).train(6, False)]
    steps = []
    for run in (first, second):
        run.model_random = dict(run.random)
        steps.append(scc.capture_step(run.step, *batch(0), device=DEVICE))
    for number in range(6):
        for run, step, results in zip((first, second), steps, want):
            backend.set_random_state(run.model_random)
            assert step(*batch(number))["loss"].numpy().tobytes() == results[number]["loss"].tobytes()
            run.model_random = backend.random_state()
            run.scheduler.step()


def test_a_graph_outlives_its_function_and_dies_with_its_memory(cupy):
    x = np.ones((64, 1 << 14), np.float32)
    captured = scc.capture_step(lambda x: F.relu(F.add(x, x)), x, device=DEVICE)
    for _ in range(3):
        output = captured(x)
    del captured
    gc.collect()
    assert output.numpy().min() == 2, "an output that is held keeps its memory"


@pytest.mark.parametrize(
    "read, message",
    [
        (lambda y: y.item(), r"item\(\) of a float32 tensor"),
        (lambda y: y.numpy(), r"numpy\(\) of a float32 tensor"),
        (lambda y: y.to("cpu"), "it copies an array"),
        (lambda y: y.array.get(), "a CUDA graph cannot hold|stream is capturing"),
        (lambda y: float(y.array.sum()), "a CUDA graph cannot hold|stream is capturing"),
    ],
    ids=["item", "numpy", "to cpu", "cupy get", "cupy sum"],
)
def test_a_failed_capture_leaves_streams_and_numbers_usable(cupy, read, message):
    quiet = [False]

    def step(x):
        y = F.dropout(F.relu(x), 0.5)
        if not quiet[0]:
            read(y)
        return y

    x = np.ones((1, 1), np.float32)
    captured = scc.capture_step(step, x, device=DEVICE)
    captured(x)
    random = backend.random_state()
    for _ in range(2):
        with pytest.raises(RuntimeError, match=message):
            captured(x)
    assert backend.random_state() == random
    assert not cupy.cuda.get_current_stream().is_capturing()
    assert F.relu(Tensor(x, device=DEVICE)).item() == 1
    quiet[0] = True
    for _ in range(3):
        captured(x)
    assert captured.captured


def test_a_step_that_does_something_new_when_it_is_captured_uploads_no_table(cupy):
    calls = []

    def step(x):
        calls.append(1)
        return launch.table(np.arange(7_000 + len(calls)), x.array)

    x = np.ones((1, 1), np.float32)
    captured = scc.capture_step(step, x, device=DEVICE)
    captured(x)
    with pytest.raises(RuntimeError, match="needs a table that its first, eager call did not upload"):
        captured(x)
    assert launch.table(np.arange(7_002), cupy.zeros(1)).get().tolist() == list(range(7_002))


def test_other_inputs_and_moved_parameters_are_named():
    run = Run(DEVICE)
    captured = scc.capture_step(run.step, *batch(0), device=DEVICE)
    for number in range(2):
        captured(*batch(number))
    images, labels = batch(2)
    with pytest.raises(RuntimeError, match=r"input 0 has shape \(1, 4, 4, 4\), the step was captured for"):
        captured(images[:1], labels[:1])
    captured(Tensor(images, device=DEVICE), Tensor(labels, device=DEVICE))
    run.model.to("cpu")
    run.model.to(DEVICE)
    with pytest.raises(RuntimeError, match=r"parameter first\.weight was moved or replaced"):
        captured(images, labels)


def test_inputs_may_lie_in_any_memory_order():
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    captured = scc.capture_step(lambda x: F.relu(x), x, device=DEVICE)
    for value in (x, np.asfortranarray(x), x[::-1], Tensor(x, device=DEVICE), Tensor(x, device=DEVICE).data):
        want = np.maximum(value.get() if hasattr(value, "get") else np.asarray(value), 0)
        np.testing.assert_array_equal(captured(value).numpy(), want)


def test_the_trainer_captures_by_default_and_gets_the_bits_of_eager_steps():
    runs = []
    for capture in ("auto", False):
        run = trainer(capture=capture)
        run.model.to(DEVICE)
        assert fit_captured(run, 3) == (capture == "auto")
        runs.append(run)
    assert rows_without_seconds(runs[0].history) == rows_without_seconds(runs[1].history)
    assert_same_weights(runs[0].model.state_dict(), runs[1].model.state_dict())
