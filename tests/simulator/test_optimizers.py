"""Clipping and optimizer steps, captured and replayed, are to the bit the eager ones, whatever changes in between."""

import numpy as np
import pytest

from sccengine import capture_step, nn, optim, set_seed
from sccengine.autograd import Tensor

BUILD = {
    "sgd": lambda groups: optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True),
    "plain sgd": lambda groups: optim.SGD(groups, lr=0.1),
    "adamw": lambda groups: optim.AdamW(groups, lr=0.01),
}


def _step_of(build):
    """(parameters, optimizer, step) of a small model with two parameter groups."""
    set_seed(3)
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    model.to("simulator")
    optimizer = build(optim.decay_groups(model, 0.1))

    def step(x, dy):
        optimizer.zero_grad()
        model(x).backward(dy)
        norm = optim.clip_grad_norm(model.parameters(), 0.5)
        optimizer.step()
        return norm

    return list(model.parameters()), optimizer, step


def _batches(count):
    random = np.random.default_rng(0)
    return [[random.standard_normal(shape).astype(np.float32) for shape in ((4, 3), (4, 2))] for _ in range(count)]


@pytest.mark.parametrize("build", BUILD.values(), ids=BUILD)
def test_captured_steps_are_eager_steps(build):
    parameters, eager_optimizer, eager = _step_of(build)
    twins, optimizer, step = _step_of(build)
    batches = _batches(5)
    captured = capture_step(step, *batches[0], device="simulator")
    for number, batch in enumerate(batches):
        for each in (eager_optimizer, optimizer):
            each.param_groups[0]["lr"] = 0.1 / (number + 1)
            if number == 3:
                state = each.state_dict()
                each.load_state_dict(state)
        want = eager(*(Tensor(array, device="simulator") for array in batch))
        got = captured(*batch)
        assert float(got) == float(want) > 0.5
        for parameter, twin in zip(parameters, twins):
            assert parameter.numpy().tobytes() == twin.numpy().tobytes()
    assert captured.captured
    states = [each.state_dict()["state"] for each in (eager_optimizer, optimizer)]
    assert states[0].keys() == states[1].keys()
    for index, entries in states[0].items():
        for name, value in entries.items():
            np.testing.assert_array_equal(value, states[1][index][name])


def test_settings_that_are_built_in_are_guarded():
    _, optimizer, step = _step_of(BUILD["sgd"])
    batch = _batches(1)[0]
    captured = capture_step(step, *batch, device="simulator")
    for _ in range(3):
        captured(*batch)
    optimizer.param_groups[1]["nesterov"] = False
    with pytest.raises(RuntimeError, match="SGD's nesterov in parameter group 1 was True and is False now"):
        captured(*batch)


def test_state_is_not_made_inside_a_capture():
    parameters, optimizer, step = _step_of(BUILD["adamw"])
    batch = _batches(1)[0]
    captured = capture_step(step, *batch, device="simulator")
    captured(*batch)
    del optimizer.state[parameters[0]]
    with pytest.raises(RuntimeError, match=r"AdamW has no state yet for a parameter of shape \(5, 3\): take a step"):
        captured(*batch)
