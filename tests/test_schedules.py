"""Learning-rate schedules as functions of the step, and the Scheduler that applies them."""

import math

import numpy as np
import pytest

from sccengine import optim
from sccengine.autograd import Parameter
from sccengine.optim import schedules


def test_constant():
    assert [schedules.constant()(s) for s in (0, 9)] == [1.0, 1.0]
    assert schedules.constant(0.5)(3) == 0.5


def test_cosine():
    schedule = schedules.cosine(10)
    assert schedule(0) == 1.0
    assert schedule(5) == pytest.approx(0.5)
    assert schedule(3) == pytest.approx(0.5 * (1 + math.cos(0.3 * math.pi)))
    assert schedule(10) == pytest.approx(0.0, abs=1e-15) and schedule(99) == schedule(10)
    assert schedules.cosine(10, final=0.1)(10) == pytest.approx(0.1)


def test_step():
    every = schedules.step(3, factor=0.5)
    assert [every(s) for s in range(7)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]
    milestones = schedules.step(milestones=[2, 5])
    assert [milestones(s) for s in range(6)] == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.01])


def test_warmup_then_another_schedule():
    schedule = schedules.warmup(4, then=schedules.cosine(10))
    assert [schedule(s) for s in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert schedule(4 + 3) == schedules.cosine(10)(3)
    assert schedules.warmup(2, start=0.5)(0) == 0.75
    nested = schedules.warmup(2, then=schedules.warmup(2, start=0.5))
    assert nested(1) == nested(2) == 0.75


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: schedules.cosine(0), "cosine schedule: steps must be at least 1, got 0"),
        (lambda: schedules.cosine(5, final=-1), "cosine schedule: final must be a finite number of at least 0, got -1"),
        (lambda: schedules.step(), "step schedule takes either every or milestones"),
        (lambda: schedules.step(2, milestones=[3]), "step schedule takes either every or milestones"),
        (lambda: schedules.step(milestones=[5, 2]), r"step schedule: milestones must increase, got \[5, 2\]"),
        (lambda: schedules.step(2, factor=math.nan), "step schedule: factor must be a finite number"),
        (lambda: schedules.warmup(-1), "warmup schedule: steps must be at least 1, got -1"),
    ],
)
def test_bad_settings(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("steps", [2.5, True, "ten"])
def test_steps_are_whole_numbers(steps):
    assert schedules.cosine(np.int64(10))(5) == schedules.cosine(10)(5)
    with pytest.raises(TypeError, match="cosine schedule: steps must be a whole number, got"):
        schedules.cosine(steps)


def test_warmup_wants_a_function():
    with pytest.raises(TypeError, match="warmup: then must be a schedule .* got int"):
        schedules.warmup(2, then=3)


def _optimizer():
    groups = [{"params": [Parameter(np.ones(1))]}, {"params": [Parameter(np.ones(1))], "lr": 1.0}]
    return optim.SGD(groups, lr=0.1)


def _rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


def test_scheduler_sets_the_rate_of_every_group():
    optimizer = _optimizer()
    scheduler = optim.Scheduler(optimizer, schedules.step(1, factor=0.5))
    assert _rates(optimizer) == [0.1, 1.0]
    scheduler.step()
    scheduler.step()
    assert _rates(optimizer) == [0.025, 0.25]


def test_scheduler_resumes_exactly():
    schedule = schedules.warmup(3, then=schedules.cosine(20))
    optimizer = _optimizer()
    scheduler = optim.Scheduler(optimizer, schedule)
    for _ in range(7):
        scheduler.step()
    resumed_optimizer = _optimizer()
    resumed_optimizer.load_state_dict(optimizer.state_dict())
    resumed = optim.Scheduler(resumed_optimizer, schedule)
    resumed.load_state_dict(scheduler.state_dict())
    assert _rates(resumed_optimizer) == _rates(optimizer)
    scheduler.step()
    resumed.step()
    assert _rates(resumed_optimizer) == _rates(optimizer)


def test_scheduler_errors():
    with pytest.raises(TypeError, match="Scheduler: schedule must be a function of the step, got float"):
        optim.Scheduler(_optimizer(), 0.1)
    with pytest.raises(ValueError, match="Scheduler: the schedule gave nan at step 0"):
        optim.Scheduler(_optimizer(), lambda step: math.nan)
    scheduler = optim.Scheduler(_optimizer(), schedules.constant())
    with pytest.raises(ValueError, match=r"the state lacks \['base_rates'\]"):
        scheduler.load_state_dict({"current_step": 1})
    with pytest.raises(ValueError, match="the state has 1 base rates, the optimizer 2 parameter groups"):
        scheduler.load_state_dict({"current_step": 1, "base_rates": [0.1]})
