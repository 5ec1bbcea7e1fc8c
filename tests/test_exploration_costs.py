"""Costs: counts as published or counted by hand, tables that are measured once and kept, memory to the byte."""

import itertools
import json
import math

import numpy as np
import pytest

from sccengine import backend, data, memory, models, nn, optim, timings
from sccengine.autograd import Tensor
from sccengine.exploration import Costs, Design
from sccengine.exploration.latency import LayerTimes, TimedLayer, layers_of
from sccengine.training.job import describe_run
from sccengine.training.step_costs import array_bytes

OPTIONS = {
    "dataset": "digits",
    "batch_size": 16,
    "optimizer": "sgd",
    "lr": None,
    "weight_decay": None,
    "decay": "weights",
    "nesterov": True,
    "label_smoothing": 0.1,
    "stem": "cifar",
}
TINY = Design(width=0.25)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")[0]


class Counting:
    """A clock that calls nothing and says 1 s five times, then 2 s five times, and so on."""

    def __init__(self):
        self.calls = 0

    def __call__(self, run):
        self.calls += 1
        return float(-(-self.calls // timings.LEAST_TURNS))


def sgd(module):
    return optim.SGD(module.parameters(), lr=0.1, momentum=0.9)


def table(folder, clock, **settings):
    return LayerTimes(4, sgd, "cpu", seconds=0, store=timings.Store(folder), clock=clock, **settings)


def network():
    """Two equal layers and one other."""
    same = {"a": nn.Conv2d(4, 4, 1), "b": nn.Conv2d(4, 4, 1)}
    return nn.Sequential({"first": nn.Conv2d(1, 4, 1), **same, "pool": nn.GlobalAvgPool2d()})


def test_counts_are_those_of_the_readme_and_of_hand():
    costs = Costs(("accuracy", "params", "macs"), {**OPTIONS, "dataset": "synthetic"}, FakeColours())
    assert costs(Design("vgg16", "dw+pw", groups=1, overlap=0.0)) == {"params": 1_690_954, "macs": 38_018_048}
    assert costs(Design("vgg16")) == {"params": 873_802, "macs": 20_716_544}


class FakeColours:
    """What costs ask of a data set, in CIFAR's shape."""

    image_shape = (3, 32, 32)
    num_classes = 10
    class_names = tuple("abcdefghij")

    def __len__(self):
        return 100

    def channel_statistics(self):
        return (0.5,) * 3, (0.2,) * 3


def test_groups_of_one_layer_change_its_weights_alone(digits):
    costs = Costs(("accuracy", "params", "macs"), OPTIONS, digits)
    whole, part = costs(Design(groups=2)), costs(Design(groups=(2, 2, 4)))
    # The last mixing layer is 64 -> 128 at 2x2 pixels (8x8 images, two strides): 16 of 32 taps fewer a filter.
    assert whole["params"] - part["params"] == 128 * 16
    assert whole["macs"] - part["macs"] == 128 * 16 * 2 * 2


def test_only_what_is_asked_for_is_known_and_once(digits, monkeypatch):
    costs = Costs(("accuracy", "params"), OPTIONS, digits)
    assert set(costs(TINY)) == {"params"}
    monkeypatch.setattr(models, "summarize", None)
    costs(TINY)["params"] = 0
    assert costs(TINY)["params"] > 0


def test_costs_leave_the_random_numbers_alone(digits, tmp_path):
    backend.set_seed(3)
    before = backend.random_state()
    layers = table(tmp_path, Counting())
    Costs(("accuracy", "latency", "memory"), OPTIONS, digits, layers=layers)(TINY)
    assert backend.random_state() == before


def test_objectives_and_designs_that_are_none(digits):
    with pytest.raises(ValueError, match="unknown objective 'speed'"):
        Costs(("accuracy", "speed"), OPTIONS, digits)
    with pytest.raises(ValueError, match="groups"):
        Costs(("accuracy", "params"), OPTIONS, digits)(Design(groups=3))
    with pytest.raises(ValueError, match="images must be at least"):
        Costs(("accuracy", "params"), OPTIONS, digits)(Design("vgg11"))


def test_layers_are_found_with_their_shapes_and_needs():
    layers = layers_of(network(), (1, 5, 6))
    assert [type(layer.module) for layer in layers] == [nn.Conv2d, nn.Conv2d, nn.Conv2d, nn.GlobalAvgPool2d]
    assert [layer.input_shapes for layer in layers] == [((1, 5, 6),), *[((4, 5, 6),)] * 3]
    assert [layer.need_gradient for layer in layers] == [(False,), (True,), (True,), (True,)]
    assert layers[-1].output_shape == (4,)


def test_a_residual_is_an_input_of_its_layer():
    layers = layers_of(models.build("resnet18", width=0.125), (3, 8, 8))
    assert sum(len(layer.input_shapes) == 2 for layer in layers) == 8  # one in each block


def test_latency_is_the_sum_over_layers_and_equal_ones_are_measured_once(tmp_path):
    clock = Counting()
    times = table(tmp_path, clock)
    turns = timings.LEAST_TURNS
    total = times.of(network(), (1, 5, 6))
    # Five turns each: first 1, the two equal ones 2, pool 3, loss 4.
    assert clock.calls == 4 * turns and times.measured == 4
    assert total == 1 + 2 + 2 + 3 + 4
    assert times.of(network(), (1, 5, 6)) == total and clock.calls == 4 * turns
    # Another process reads them from disk; another image size has entries of its own.
    again = table(tmp_path, clock)
    assert again.of(network(), (1, 5, 6)) == total and again.measured == 0
    again.of(network(), (1, 5, 7))
    assert again.measured == 4 - 1  # the loss sees the same logits


def test_a_busy_machine_is_measured_for_longer(tmp_path):
    """Until three of the least agree: a scripted clock is disturbed in all but one of each five calls."""
    script = itertools.cycle([9.0, 8.0, 1.0, 20.0, 30.0])
    times = table(tmp_path, lambda run: next(script))
    assert times.of_layer(layers_of(network(), (1, 5, 6))[1]) == 1.0
    (record,) = timings.Store(tmp_path).records()
    assert len(record["seconds"]["step"]) == 3 * 5
    script = itertools.count(1.0, 5.0)
    times = table(tmp_path / "hopeless", lambda run: next(script))
    assert times.of_layer(layers_of(network(), (1, 5, 6))[1]) == 1.0  # given up after ATTEMPTS


def test_what_timings_depend_on_is_in_the_key(tmp_path, monkeypatch):
    clock = Counting()
    layer = layers_of(network(), (1, 5, 6))[1]
    table(tmp_path, clock).of_layer(layer)
    others = [
        LayerTimes(8, sgd, seconds=0, store=timings.Store(tmp_path), clock=clock),
        LayerTimes(4, lambda m: optim.AdamW(m.parameters()), seconds=0, store=timings.Store(tmp_path), clock=clock),
    ]
    for other in others:
        other.of_layer(layer)
        assert other.measured == 1
    first = table(tmp_path, clock)
    first.of_layer(layer._replace(need_gradient=(False,)))
    assert first.measured == 1
    monkeypatch.setattr("sccengine.exploration.latency.tuning.choose", lambda *problem: "channel_stack")
    tuned = table(tmp_path, clock)
    tuned.of_layer(layer)
    assert tuned.measured == 1
    monkeypatch.setattr("sccengine.exploration.latency.device_key", lambda device: {"name": "another"})
    second = table(tmp_path, clock)
    second.of_layer(layer)
    assert second.measured == 1 and len(timings.Store(tmp_path).records()) == 6


def test_a_damaged_entry_is_set_aside_and_measured_again(tmp_path):
    clock = Counting()
    layer = layers_of(network(), (1, 5, 6))[1]
    table(tmp_path, clock).of_layer(layer)
    (path,) = tmp_path.glob("*.json")
    path.write_text("{")
    with pytest.warns(UserWarning, match="damaged"):
        assert table(tmp_path, clock).of_layer(layer) == 2
    assert path.with_suffix(".damaged").exists()
    path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": {}}))
    assert table(tmp_path, clock).of_layer(layer) == 3
    assert table(tmp_path, clock).of_layer(layer) == 3


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    layer = layers_of(network(), (1, 5, 6))[1]
    times = table(tmp_path / "file" / "below", Counting())
    with pytest.warns(UserWarning, match="cannot be written"):
        assert times.of_layer(layer) == 1


def test_a_layer_that_fails_is_named(tmp_path):
    class Broken(nn.Module):
        def forward(self, x):
            raise MemoryError("no room")

    with pytest.raises(RuntimeError, match=r"Broken\(\) failed"):
        table(tmp_path, Counting()).of_layer(TimedLayer(Broken(), ((1, 2, 2),), (True,), (1, 2, 2)))


def test_a_measured_step_steps(tmp_path):
    """Forward, backward and update of the layer all happen: its weights move, and its input gets a gradient."""
    ran = []

    class Watched(nn.Conv2d):
        def forward(self, x):
            ran.append((x.requires_grad, self.weight.array.copy()))
            return super().forward(x)

    layer = TimedLayer(Watched(2, 3, 1), ((2, 4, 4),), (True,), (3, 4, 4))
    table(tmp_path, lambda run: run() or 1.0).of_layer(layer)
    assert all(needs for needs, _ in ran)
    weights = [weight for _, weight in ran]
    assert all((a != b).any() for a, b in zip(weights[1:], weights[2:]))


@pytest.mark.parametrize("cost", ["latency", "memory"])
def test_the_simulator_says_nothing_of_a_device(cost, digits, monkeypatch):
    monkeypatch.setattr(backend, "resolve_device", lambda device: "simulator")
    with pytest.raises(RuntimeError, match=f"{cost} cannot be measured on device 'simulator'"):
        Costs(("accuracy", cost), OPTIONS, digits, "simulator")


def test_real_times_are_positive_and_repeat_from_disk(digits, tmp_path):
    store = timings.Store(tmp_path)
    options = {**OPTIONS, "batch_size": 4}
    found = []
    for _ in range(2):
        layers = LayerTimes(4, sgd, seconds=0, store=store)
        found.append(Costs(("accuracy", "latency"), options, digits, layers=layers)(TINY)["latency"])
    assert found[0] == found[1] and 0 < found[0] < 10
    assert found[0] == float(f"{found[0]:.2g}")


def test_an_account_counts_arrays_as_long_as_a_view_of_them_lives():
    with memory.accounting() as account:
        small = memory.empty((10, 10), np.float32)
        large = memory.empty((1 << 18,), np.float32)
        view = large.reshape(512, 512).T[1:]
        assert account.used == account.peak == 400 + (1 << 20)
        del large
        assert account.used == 400 + (1 << 20)
        del view
        assert account.used == 400
        del small
    memory.empty((10, 10), np.float32)
    assert account.used == 0 and account.peak == 400 + (1 << 20)


def test_memory_is_exact_and_holds_what_a_step_must_hold(digits):
    settings = {"model": "dscnet", "scheme": "dw+scc", "groups": 2, "overlap": 0.5, "width": 1.0, "lr": 0.1}
    config = describe_run({**OPTIONS, **settings, "weight_decay": 0.0}, digits)

    def batch(size):
        return backend.from_rows(np.zeros((1, 8, 8, size), np.float32)), np.zeros(size, np.int64)

    small, large = (array_bytes(config, "cpu", batch(size)) for size in (16, 48))
    assert array_bytes(config, "cpu", batch(16)) == small
    # Weights, gradients and momenta, whatever the batch; what is more grows with the images and with nothing else.
    counted = 3 * 4 * 9482
    shapes = [layer.output_shape for layer in layers_of(models.build("dscnet", in_channels=1), (1, 8, 8))]
    activations = 4 * sum(math.prod(shape) for shape in shapes)
    assert small > counted + 16 * activations * 0.9
    assert 0.9 * activations < (large - small) / 32 < 2 * activations


def test_memory_of_a_design_does_not_depend_on_what_came_before(digits):
    objectives = ("accuracy", "memory")
    alone = Costs(objectives, OPTIONS, digits)(TINY)
    after = Costs(objectives, OPTIONS, digits)
    after(Design(width=0.5))
    assert after(TINY) == alone
    assert after(Design(width=0.5))["memory"] > alone["memory"]


def test_a_step_is_taken_on_tensors_of_the_batch(tmp_path):
    seen = []

    class Watched(nn.ReLU):
        def forward(self, x):
            seen.append((type(x), x.shape))
            return super().forward(x)

    table(tmp_path, Counting()).of_layer(TimedLayer(Watched(), ((2, 4, 4),), (True,), (2, 4, 4)))
    assert set(seen) == {(Tensor, (4, 2, 4, 4))}
