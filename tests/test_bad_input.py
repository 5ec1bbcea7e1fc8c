"""Nonsense handed to the public API: each kind is refused with a documented error that names it."""

import math

import numpy as np
import pytest

import sccengine.functional as F
from sccengine import ChannelWindows, Parameter, Tensor, data, models, nn, optim, training
from sccengine.optim import schedules

X = np.ones((2, 8, 3, 3), np.float32)
WEIGHT = np.ones((6, 4), np.float32)
ZEROS = np.zeros(8, np.float32)

CASES = {
    "masked array": (lambda: Tensor(np.ma.masked_array([1.0, 2.0], [True, False])), TypeError, "no mask"),
    "None as tensor": (lambda: Tensor(None), TypeError, "got NoneType"),
    "None as input": (lambda: F.relu(None), TypeError, "ReLU needs an input, got None"),
    "None as second input": (lambda: F.add(X, None), TypeError, "got NoneType"),
    "truth of many values": (lambda: bool(Tensor([1.0, 2.0])), ValueError, "one element"),
    "list as variant": (lambda: F.scc(X, WEIGHT, groups=2, overlap=0.5, variant=["tiles"]), ValueError, "variant"),
    "list as running mean": (
        lambda: F.batch_norm(X, [0.0] * 8, ZEROS),
        TypeError,
        "running_mean must be an array or None, got list",
    ),
    "a layer of other channels": (lambda: nn.SCC(6, 4)(X), ValueError, r"SCC: made for 6 channels, .* \(2, 8, 3, 3\)"),
    "channels last": (lambda: nn.Conv2d(8, 4, 3)(X.transpose(0, 2, 3, 1)), ValueError, "Conv2d: made for 8 channels"),
    "a norm of other channels": (lambda: nn.BatchNorm2d(7)(X), ValueError, "BatchNorm2d: made for 7 channels"),
    "float64 for a layer": (
        lambda: nn.SCC(8, 4)(X.astype(np.float64)),
        TypeError,
        r"scc: weight is float32 but the input is float64: convert the input, x\.astype\(np\.float32\); "
        r"a model becomes float64 by model\.to\(dtype='float64'\)",
    ),
    "bytes for a layer": (
        lambda: nn.Conv2d(8, 4, 3)(X.astype(np.uint8)),
        TypeError,
        r"conv2d: input must be float32 or float64, got uint8: convert it, x\.astype\(np\.float32\)",
    ),
    "float16 for a layer": (
        lambda: nn.SCC(8, 4)(X.astype(np.float16)),
        TypeError,
        r"got float16: convert it, x\.astype\(np\.float32\)",
    ),
    "a billion channels": (lambda: ChannelWindows.grouped(10**9, 10**9, 1), ValueError, "in_channels must be at most"),
    "a model too wide": (lambda: models.build("dscnet", width=1e9), ValueError, "must be at most"),
    "lr beyond floats": (lambda: optim.SGD([Parameter([1.0])], lr=10**400), ValueError, "lr is too large"),
    "params of no list": (lambda: optim.SGD(None, lr=0.1), TypeError, "list of Parameters, got NoneType"),
    "clipping arrays": (lambda: optim.clip_grad_norm([X], 1.0), TypeError, "got ndarray at position 0"),
    "decay groups of nothing": (lambda: optim.decay_groups(None, 0.1), TypeError, "must be a Module, got NoneType"),
    "scheduler of nothing": (lambda: optim.Scheduler(None, schedules.constant()), TypeError, "must be an Optimizer"),
    "summary of text": (lambda: models.summarize("dscnet", (3, 8, 8)), TypeError, "must be a Module, got str"),
    "summary of half a pixel": (lambda: models.summarize(nn.ReLU(), (3, 1.5, 3)), TypeError, "three whole numbers"),
    "summary of text as shape": (lambda: models.summarize(nn.ReLU(), "388"), TypeError, "three whole numbers"),
}


@pytest.mark.parametrize(("call", "error", "message"), CASES.values(), ids=CASES)
def test_nonsense_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_bytes_in_another_order_are_put_right():
    np.testing.assert_array_equal(Tensor(np.arange(3, dtype=">f4")).numpy(), np.arange(3, dtype=np.float32))


def test_matrices_are_read_as_arrays():
    tensor = Tensor(np.ones((2, 3), np.float32).view(np.matrix))
    assert type(tensor.array) is np.ndarray


def test_the_truth_of_one_value_is_its_own():
    assert not Tensor([0.0]) and Tensor(2.0)


def _used(build):
    parameter = Parameter(np.ones((3, 3), np.float32))
    optimizer = build([parameter])
    parameter.grad = Tensor(np.ones((3, 3), np.float32))
    optimizer.step()
    return optimizer


FOREIGN = {
    "state a list": lambda s: {**s, "state": [1]},
    "number no number": lambda s: {**s, "state": {"a": s["state"][0]}},
    "entry None": lambda s: {**s, "state": {0: None}},
    "other names": lambda s: {**s, "state": {0: {"velocity": np.ones((3, 3))}}},
    "array a number": lambda s: {**s, "state": {0: dict.fromkeys(s["state"][0], 1.0)}},
    "array text": lambda s: {**s, "state": {0: dict.fromkeys(s["state"][0], "x")}},
    "groups None": lambda s: {**s, "param_groups": None},
    "groups text": lambda s: {**s, "param_groups": ["a"]},
}


@pytest.mark.parametrize("spoil", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("build", [lambda p: optim.SGD(p, lr=0.1, momentum=0.9), optim.AdamW], ids=["sgd", "adamw"])
def test_foreign_optimizer_states_change_nothing(build, spoil):
    optimizer = _used(build)
    before = repr(optimizer.state_dict())
    with pytest.raises(ValueError, match="the state does not fit this optimizer"):
        optimizer.load_state_dict(spoil(optimizer.state_dict()))
    assert repr(optimizer.state_dict()) == before


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (None, TypeError),
        ({"current_step": "x", "base_rates": [0.1]}, TypeError),
        ({"current_step": -4, "base_rates": [0.1]}, ValueError),
        ({"current_step": 4, "base_rates": [math.nan]}, ValueError),
        ({"current_step": 4, "base_rates": ["x"]}, TypeError),
    ],
)
def test_foreign_scheduler_states_change_nothing(state, error):
    scheduler = optim.Scheduler(optim.SGD([Parameter([1.0])], lr=0.1), schedules.constant())
    with pytest.raises(error, match="Scheduler.load_state_dict"):
        scheduler.load_state_dict(state)
    assert scheduler.state_dict() == {"current_step": 0, "base_rates": [0.1]}


def _trainer(**replaced):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    images, labels = np.zeros((4, 1, 2, 2), np.uint8), np.arange(4) % 2
    loader = data.Loader(data.ImageDataset(images, labels, ("a", "b"), "x"), 2)
    arguments = {
        "model": model,
        "optimizer": optim.SGD(model.parameters(), lr=0.1),
        "train_loader": loader,
        "test_loader": loader,
        "progress": "quiet",
    }
    return training.Trainer(**{**arguments, **replaced})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("model", "x", TypeError),
        ("optimizer", None, TypeError),
        ("train_loader", [1], TypeError),
        ("train_loader", None, TypeError),
        ("test_loader", [1], TypeError),
        ("config", 3, TypeError),
        ("patience", 1.5, TypeError),
        ("patience", True, TypeError),
        ("patience", 0, ValueError),
        ("checkpoint_steps", "a", TypeError),
        ("checkpoint_seconds", math.nan, ValueError),
        ("label_smoothing", 2, ValueError),
    ],
)
def test_the_trainer_names_what_it_cannot_use(name, value, error):
    with pytest.raises(error, match=f"Trainer: {name} must"):
        _trainer(**{name: value})


def test_the_trainer_wants_an_optimizer_of_its_model():
    with pytest.raises(ValueError, match="Trainer: the optimizer has none of the model's parameters"):
        _trainer(optimizer=optim.SGD(nn.Linear(4, 2).parameters(), lr=0.1))


def test_evaluation_wants_a_loader():
    with pytest.raises(TypeError, match="evaluate: loader must be a Loader, got str"):
        _trainer().evaluate("x")


EVALUATIONS = {
    "evaluate a data set": (
        lambda model, loader: training.evaluate(model, loader.dataset),
        r"evaluate: loader must be a Loader, got ImageDataset: data\.Loader\(dataset, 256\) makes one",
    ),
    "evaluate, swapped": (
        lambda model, loader: training.evaluate(loader, model),
        "evaluate: model must be a Module, got Loader",
    ),
    "predict a loader": (
        lambda model, loader: training.predict(model, loader),
        r"predict: images must be an array \(N, C, H, W\), got Loader: .* for images, labels in loader",
    ),
    "predict, swapped": (
        lambda model, loader: training.predict(np.zeros((1, 1, 2, 2)), model),
        "predict: model must be a Module, got ndarray",
    ),
    "predict bytes": (
        lambda model, loader: training.predict(model, loader.dataset.images),
        "predict: images must be float32 .* got uint8: Trainer.predict prepares uint8 images",
    ),
}


@pytest.mark.parametrize(("call", "message"), EVALUATIONS.values(), ids=EVALUATIONS)
def test_evaluations_say_what_they_want(call, message):
    run = _trainer()
    with pytest.raises(TypeError, match=message):
        call(run.model, run.train_loader)


def test_predictions_are_of_arrays_and_tensors():
    run = _trainer()
    images = np.random.default_rng(0).random((3, 1, 2, 2)).astype(np.float32)
    np.testing.assert_array_equal(training.predict(run.model, Tensor(images)), training.predict(run.model, images))
    with pytest.raises(ValueError, match="predict: there is no image"):
        training.predict(run.model, images[:0])


@pytest.mark.parametrize("size", [(0, 3), (3, -1), (3, True), (3, "x"), (1.5, 3)])
def test_images_are_read_to_at_least_one_pixel(tmp_path, size):
    with pytest.raises((TypeError, ValueError), match="read_image: height and width must be"):
        data.read_image(tmp_path / "absent.png", *size)


def test_class_names_in_one_text_are_no_names():
    with pytest.raises(TypeError, match="class_names must be a tuple of strings, got str"):
        data.ImageDataset(np.zeros((2, 1, 2, 2), np.uint8), np.arange(2), "ab", "x")
