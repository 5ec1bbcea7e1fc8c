"""Captured steps: eager ones to the bit, new numbers at each replay, every refusal by name.

On the CPU; ``tests/simulator/test_capture.py`` takes these tests over for the CUDA kernels.
"""

import math
import os

import numpy as np
import pytest

import sccengine as scc
import sccengine.functional as F
from sccengine import backend, models, nn, optim
from sccengine.autograd import Function, Parameter, Tensor
from tests.captured_steps import CLASSES, Run, assert_equal_to_the_bit, batch

DEVICE = "simulator" if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1" else "cpu"


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
    assert_equal_to_the_bit(DEVICE, **settings)


@pytest.mark.parametrize(
    "name", ["dscnet", *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet18", "mobilenet", "vgg11"))]
)
def test_every_model_is_a_list_of_launches(name):
    def tiny():
        return nn.Sequential(models.build(name, width=1 / 32, in_channels=1, num_classes=CLASSES), nn.Dropout(0.2))

    size = 32 if name == "vgg11" else 8
    assert_equal_to_the_bit(
        DEVICE, steps=3 if name == "dscnet" else 2, model=tiny, shape=(2, 1, size, size), label_smoothing=0.1
    )


def test_learning_rates_change_without_a_new_capture():
    def rates(run, number):
        for group in run.optimizer.param_groups:
            group["lr"] = [0.1, 0.0, 0.3, 0.02][number]

    assert_equal_to_the_bit(DEVICE, before_step=rates)


def test_dropout_draws_a_mask_for_every_replay_and_leaves_the_random_state_of_eager_steps():
    x = np.ones((2, 40), np.float32)
    backend.set_seed(1)
    captured = scc.capture_step(lambda x: F.dropout(x, 0.5), x, device=DEVICE)
    got = [captured(x).numpy().copy() for _ in range(5)]
    after = backend.random_state()
    backend.set_seed(1)
    want = [F.dropout(Tensor(x, device=DEVICE), 0.5).numpy() for _ in range(5)]
    np.testing.assert_array_equal(got, want)
    assert backend.random_state() == after
    assert len({y.tobytes() for y in got}) == 5


def test_host_values_are_asked_for_once_a_step_whatever_their_number():
    calls = []

    def step(x):
        many = [backend.host_value(lambda: [len(calls)] * 700, x.array, np.float64) for _ in range(15)]
        last = backend.host_value(lambda: calls.append(0) or [len(calls)], x.array, np.float64)
        backend.kernels_for(last).copy.copy(many[-1][:1], total)
        return F.relu(x), last

    total = backend.empty((1,), Tensor([0.0], device=DEVICE).array, np.float64)
    x = np.ones((1, 1), np.float32)
    captured = scc.capture_step(step, x, device=DEVICE)
    for number in range(1, 5):
        _, last = captured(x)
        assert last.tolist() == [number] == [len(calls)]
        assert total.tolist() == [number - 1]


def test_outputs_and_gradients_are_static():
    run = Run(DEVICE)
    captured = scc.capture_step(run.step, *batch(0), device=DEVICE)
    captured(*batch(0))
    outputs = captured(*batch(1))
    gradients = {name: parameter.grad for name, parameter in run.model.named_parameters()}
    first = outputs["loss"].item()
    run.optimizer.zero_grad()
    again = captured(*batch(2))
    assert again["loss"] is outputs["loss"] and again["loss"].item() != first
    assert not again["loss"].requires_grad
    for name, parameter in run.model.named_parameters():
        assert parameter.grad is gradients[name]


def test_two_captured_steps_take_turns():
    x = [np.full((1, 2), value, np.float32) for value in (-1, 2)]
    one = scc.capture_step(lambda x: F.relu(x), x[0], device=DEVICE)
    other = scc.capture_step(lambda x: F.add(x, x), x[0], device=DEVICE)
    for _ in range(3):
        for value in x:
            np.testing.assert_array_equal(one(value).numpy(), np.maximum(value, 0))
            np.testing.assert_array_equal(other(value).numpy(), 2 * value)


def test_a_replay_counts_as_a_change_of_what_it_overwrites():
    run = Run(DEVICE)
    captured = scc.capture_step(run.step, *batch(0), device=DEVICE)
    for number in range(2):
        captured(*batch(number))
    pending = F.linear(Tensor(np.ones((1, 4), np.float32), requires_grad=True, device=DEVICE), run.model.head.weight)
    captured(*batch(2))
    with pytest.raises(RuntimeError, match="was changed in place"):
        pending.backward(Tensor(np.ones((1, CLASSES), np.float32), device=DEVICE))


# What a captured step cannot follow: a clear error before anything is replayed.


def _captured():
    run = Run(DEVICE)
    captured = scc.capture_step(run.step, *batch(0), device=DEVICE)
    for number in range(2):
        captured(*batch(number))
    return run, captured


def _replace(run):
    run.model.head.weight.data = run.model.head.weight.numpy().copy()


def _add_part(run):
    run.model.extra = Parameter(np.zeros(3, np.float32), device=DEVICE)


def _add_group(run):
    run.model.later = nn.Linear(2, 2).to(DEVICE)
    run.optimizer.add_param_group({"params": run.model.later.parameters()})
    del run.model.later


def _exchange(run):
    run.model.first.bias = Parameter(np.zeros(4, np.float32), device=DEVICE)


CHANGES = {
    "another array": (_replace, r"parameter head\.weight was moved or replaced"),
    "another dtype": (lambda run: run.model.to(dtype="float64"), r"parameter first\.weight was moved or replaced"),
    "another parameter": (_exchange, r"first\.bias was moved or replaced"),
    "one parameter more": (_add_part, r"the number of parameters of Residual was 0 and is 1 now"),
    "evaluation mode": (lambda run: run.model.drop.eval(), r"drop\.training was True and is False now"),
    "a forward of its own": (
        lambda run: setattr(run.model.drop, "forward", lambda x: x),
        r"the number of attributes of drop was \d+ and is \d+ now",
    ),
    "another setting": (lambda run: setattr(run.model.drop, "p", 0.1), r"drop\.p was 0\.3 and is 0\.1 now"),
    "a hook": (
        lambda run: run.model.head.register_forward_hook(print),
        r"the number of forward hooks of head was 0 and is 1 now",
    ),
    "one parameter group more": (_add_group, r"the number of SGD's parameter groups was \d and is \d now"),
    "one parameter fewer to update": (
        lambda run: run.optimizer.param_groups[0]["params"].pop(),
        r"the number of parameters of SGD's parameter group 0 was \d and is \d now",
    ),
    "another matmul precision": (
        lambda run: scc.set_matmul_precision("high"),
        r"the precision set by set_matmul_precision was 'highest' and is 'high' now",
    ),
    "a frozen parameter": (
        lambda run: run.model.head.requires_grad_(False),
        r"requires_grad of parameter head\.weight was True and is False now",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_has_changed_is_named_and_nothing_is_replayed(name):
    change, message = CHANGES[name]
    run, captured = _captured()
    precision = scc.get_matmul_precision()
    try:
        change(run)
        before, random = run.model.state_dict(), backend.random_state()
        with pytest.raises(RuntimeError, match=f"captured step: {message}"):
            captured(*batch(2))
    finally:
        scc.set_matmul_precision(precision)
    for key, array in run.model.state_dict().items():
        np.testing.assert_array_equal(array, before[key])
    assert backend.random_state() == random


def test_a_step_that_records_is_not_replayed_under_no_grad():
    _, captured = _captured()
    with scc.no_grad(), pytest.raises(RuntimeError, match=r"\(no_grad\) was True and is False now"):
        captured(*batch(2))
    captured(*batch(2))


def test_an_evaluation_that_fuses_is_not_replayed_unfused():
    layers = [nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4, relu=True), nn.SCC(4, 4, 2)]
    model = nn.Sequential(*layers, nn.BatchNorm2d(4, relu=True)).to(DEVICE).eval()
    x = np.ones((1, 4, 2, 2), np.float32)

    @scc.no_grad()
    def look(captured):
        return captured(x).numpy().copy()

    captured = scc.capture_step(model, x, device=DEVICE)
    want = [look(captured) for _ in range(3)]
    with nn.unfused(), pytest.raises(RuntimeError, match=r"\(nn\.unfused\) was False and is True now"):
        look(captured)
    np.testing.assert_array_equal(look(captured), want[0])


def test_an_input_that_requires_a_gradient_is_refused():
    x = Tensor(np.ones((1, 2), np.float32), requires_grad=True, device=DEVICE)
    with pytest.raises(ValueError, match="input 0 requires a gradient"):
        scc.capture_step(F.relu, x)
    captured = scc.capture_step(F.relu, x.detach())
    with pytest.raises(ValueError, match="input 0 requires a gradient"):
        captured(x)


def test_a_replay_counts_as_a_change_of_its_outputs_and_gradients():
    weight = Parameter(np.ones((2, 2), np.float32), device=DEVICE)
    ones = Tensor(np.ones((1, 2), np.float32), device=DEVICE)

    def step(x):
        weight.grad = None
        y = F.linear(x, weight)
        y.backward(ones)
        return y.detach()

    x = np.ones((1, 2), np.float32)
    captured = scc.capture_step(step, x, device=DEVICE)
    for _ in range(2):
        y = captured(x)
    other = Parameter(np.ones((3, 2), np.float32), device=DEVICE)
    pending, version = F.linear(y, other), weight.grad.version
    captured(x)
    assert weight.grad.version == version + 1
    with pytest.raises(RuntimeError, match="was changed in place"):
        pending.backward(Tensor(np.ones((1, 3), np.float32), device=DEVICE))


def test_loading_states_into_the_same_memory_is_no_change():
    run, captured = _captured()
    weights, state, random = run.model.state_dict(), run.optimizer.state_dict(), backend.random_state()
    first = captured(*batch(2))["loss"].item()
    captured(*batch(3))
    run.model.load_state_dict(weights)
    run.optimizer.load_state_dict(state)
    backend.set_random_state(random)
    assert captured(*batch(2))["loss"].item() == first


def test_other_inputs_are_refused_by_what_differs():
    _, captured = _captured()
    images, labels = batch(2)
    for inputs, message in (
        ((images[:1], labels[:1]), r"input 0 has shape \(1, 4, 4, 4\), the step was captured for \(2, 4, 4, 4\)"),
        ((images.astype(np.float64), labels), "input 0 has dtype float64, the step was captured for float32"),
        ((images, labels.astype(np.int32)), "input 1 has dtype int32, the step was captured for int64"),
    ):
        with pytest.raises(RuntimeError, match=message):
            captured(*inputs)
    with pytest.raises(TypeError, match="it takes 2 inputs, got 1"):
        captured(images)


READS = {
    "item": (lambda y: y.item(), r"item\(\) of a float32 tensor of shape \(1, 1\) reads on the host"),
    "float": (lambda y: float(y), r"item\(\) of a float32 tensor"),
    "numpy": (lambda y: y.numpy(), r"numpy\(\) of a float32 tensor"),
    "bool": (lambda y: y if y else None, r"item\(\) of a float32 tensor"),
    "repr": (lambda y: repr(y), r"repr\(\) of a float32 tensor"),
    "a host array": (
        lambda y: Tensor(np.ones((1, 1), np.float32), device=DEVICE),
        r"(makes a tensor of|copies) an array of shape \(1, 1\)",
    ),
    "labels of the host": (
        lambda y: F.cross_entropy(y, np.zeros(1, np.int64)),
        r"(makes a tensor of|copies) an array",
    ),
    "NumPy operator": (lambda y: y.array * 2, rf"numpy\.multiply on an array of device '{DEVICE}' is no launch"),
    "NumPy function": (lambda y: np.concatenate([y.array, y.array]), r"numpy\.concatenate on an array"),
    "values of a parameter": (lambda y: F.dropout(y, 0.5).data * 2, r"numpy\.multiply on an array"),
    "assignment": (lambda y: y.array.__setitem__(0, 1), r"array\[\.\.\.\] = value on an array"),
    "fill": (lambda y: y.array.fill(0), r"array\.fill\(\) on an array"),
    "copy": (lambda y: y.array.copy(), r"array\.copy\(\) on an array"),
    "conversion": (lambda y: y.array.astype(np.float64), r"array\.astype\(\) on an array"),
    "nesting": (lambda y: _warm(y), "cannot be called inside another step"),
}


def _warm(y):
    if "inner" not in _cache:
        _cache["inner"] = scc.capture_step(lambda x: F.relu(x), y, device=DEVICE)
        _cache["inner"](y)
    return _cache["inner"](y)


_cache = {}


@pytest.mark.parametrize("name", READS)
def test_a_read_in_the_step_is_named_and_eager_work_goes_on_as_before(name):
    read, message = READS[name]
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
    with pytest.raises(RuntimeError, match=f"captured step: .*{message}"):
        captured(x)
    assert backend.current_capture() is None and backend.random_state() == random
    assert F.relu(Tensor(x, device=DEVICE)).item() == 1
    quiet[0] = True
    captured(x)
    assert captured.captured


def test_gradients_from_before_the_step_are_refused_and_kept():
    weight = Parameter(np.ones((1, 2), np.float32), device=DEVICE)

    def step(x):
        F.linear(x, weight).backward()

    x = np.ones((1, 2), np.float32)
    captured = scc.capture_step(step, x, device=DEVICE)
    captured(x)
    gradient = weight.grad
    with pytest.raises(RuntimeError, match=r"adds to a gradient of shape \(1, 2\) .* call zero_grad\(\)"):
        captured(x)
    assert weight.grad is gradient and gradient.numpy().tolist() == [[1, 1]]


def test_an_error_of_the_step_itself_comes_through():
    calls = []

    def step(x):
        calls.append(1)
        if len(calls) == 2:
            raise ZeroDivisionError("mine")
        return F.relu(x)

    x = np.ones((1, 1), np.float32)
    captured = scc.capture_step(step, x, device=DEVICE)
    captured(x)
    with pytest.raises(ZeroDivisionError, match="mine"):
        captured(x)
    for _ in range(3):
        assert captured(x).item() == 1
    assert len(calls) == 3, "a replay does not call the step"


def test_a_capture_that_fails_counts_no_step():
    weight = Parameter(np.ones((1, 2), np.float32), device=DEVICE)
    optimizer = optim.AdamW([weight], lr=0.1)

    def step(x):
        optimizer.zero_grad()
        F.linear(x, weight).backward()
        optimizer.step()
        optimizer.step()
        if optimizer.state[weight]["step"] == 4:
            raise ZeroDivisionError("mine")

    x = np.ones((1, 2), np.float32)
    captured = scc.capture_step(step, x, device=DEVICE)
    captured(x)
    before = weight.numpy().copy()
    with pytest.raises(ZeroDivisionError, match="mine"):
        captured(x)
    assert optimizer.state[weight]["step"] == 2
    np.testing.assert_array_equal(weight.numpy(), before)


def test_atomic_sums_begin_at_zero_in_every_replay():
    weight = Parameter(np.ones((4, 2), np.float32), device=DEVICE)
    x = np.random.default_rng(0).standard_normal((1, 4, 1, 1)).astype(np.float32)

    def step(x):
        weight.grad = None
        F.scc(x, weight, groups=2, overlap=0.5, variant="direct_output_centric").backward(Tensor(x.array))

    captured = scc.capture_step(step, x, device=DEVICE)
    gradients = []
    for _ in range(3):
        captured(x)
        gradients.append(weight.grad.numpy().copy())
    np.testing.assert_array_equal(gradients, gradients[:1] * 3)


def test_outputs_that_no_replay_could_renew_are_refused():
    captured = scc.capture_step(lambda x: 0.5, np.ones((1, 1), np.float32), device=DEVICE)
    with pytest.raises(TypeError, match="returned a float, which no replay would renew"):
        captured(np.ones((1, 1), np.float32))


def test_a_step_is_a_function():
    with pytest.raises(TypeError, match="step_fn must be a function, got int"):
        scc.capture_step(3)


def test_a_function_that_hides_a_numpy_operator_shows_up():
    class Doubled(Function):
        def forward(self, x):
            y = backend.empty(x.shape, like=x)
            np.multiply(x.view(np.ndarray), 2, out=y.view(np.ndarray))
            return y

    x = np.ones((1, 3), np.float32)
    captured = scc.capture_step(lambda x: Doubled()(F.relu(x)), x, device=DEVICE)
    captured(x)
    captured(x)
    assert captured(5 * x).numpy().tolist() != [[10, 10, 10]], "not a launch, so a replay leaves it out"


def test_momentum_and_weight_decay_may_change_too():
    def settings(run, number):
        for group in run.optimizer.param_groups:
            group["momentum"], group["weight_decay"] = 0.9 - 0.1 * number, 0.01 * number

    assert_equal_to_the_bit(DEVICE, before_step=settings)


def test_a_loss_that_is_not_finite_passes_through_a_replay():
    run, captured = _captured()
    images, labels = batch(2)
    images[0, 0, 0, 0] = math.nan
    assert math.isnan(captured(images, labels)["loss"].item())


def test_labels_may_be_a_tensor_from_before_the_step():
    labels = Tensor(np.array([0, 1]), device=DEVICE)
    captured = scc.capture_step(lambda x: F.cross_entropy(x, labels), np.eye(2, dtype=np.float32), device=DEVICE)
    for _ in range(3):
        loss = captured(np.eye(2, dtype=np.float32)).item()
    assert loss == pytest.approx(math.log(1 + math.exp(-1)))
