"""Training with captured steps on the CPU, which is how it is done unasked: the bits of eager steps, and when not."""

import gc
import weakref

import numpy as np
import pytest

from sccengine import nn, optim
from sccengine.training import NonFiniteLossError
from tests.training_run import assert_same_weights, fit_captured, rows_without_seconds, trainer


def _assert_same_run(one, other):
    assert rows_without_seconds(one.history) == rows_without_seconds(other.history)
    assert_same_weights(one.model.state_dict(), other.model.state_dict())


@pytest.mark.parametrize("batch", [16, 24])
def test_captured_and_eager_runs_have_the_same_bits(batch):
    """Of batches of 24 the last is smaller."""
    runs = {}
    for capture in (True, False, "auto"):
        runs[capture] = trainer(capture=capture, batch=batch)
        runs[capture].train_loader.drop_last = False
        assert fit_captured(runs[capture], 3) == (capture is not False)
    _assert_same_run(runs[True], runs[False])
    _assert_same_run(runs["auto"], runs[False])


def _subclassed(run):
    class Mine(nn.ReLU):
        pass

    run.model._modules["act"] = Mine()


def _patched(run):
    step = run.optimizer.step
    run.optimizer.step = lambda: step()


OWN = {
    "a class of one's own": _subclassed,
    "a method of one's own": _patched,
    "a hook": lambda run: run.model.head.register_forward_hook(lambda *_: None),
}


@pytest.mark.parametrize("name", OWN)
def test_with_code_of_the_users_steps_are_captured_on_request_only(name):
    for capture in ("auto", True):
        run = trainer(capture=capture)
        OWN[name](run)
        assert fit_captured(run, 1) == (capture is True)


def test_a_model_that_cannot_be_captured_is_refused_or_trained_without():
    def reading(module, inputs, output):
        output.numpy()

    run = trainer(capture=True)
    run.model.head.register_forward_hook(reading)
    with pytest.raises(RuntimeError, match=r"numpy\(\) of a float32 tensor"):
        run.fit(1)
    run = trainer(capture="auto")
    make = run._make_stepper

    def make_and_hook():
        make()
        run.model.head.register_forward_hook(reading)

    run._make_stepper = make_and_hook
    with pytest.warns(UserWarning, match="goes on without a captured step, launch by launch: captured step: numpy"):
        run.fit(2)
    plain = trainer(capture=False)
    plain.fit(2)
    _assert_same_run(run, plain)


def test_what_changes_during_a_run_is_captured_anew():
    def freeze(run):
        step = run.scheduler.step

        def freezing():
            step()
            if run.scheduler.current_step == 6:
                run.model.first.requires_grad_(False)
                run.optimizer.param_groups[0]["nesterov"] = True

        run.scheduler.step = freezing
        return run

    runs = []
    for capture in ("auto", False):
        runs.append(freeze(trainer(capture=capture)))
        runs[-1].fit(3)
    _assert_same_run(*runs)
    with pytest.raises(RuntimeError, match="since the step was captured"):
        freeze(trainer(capture=True)).fit(3)


def test_a_loss_that_is_not_finite_is_seen_before_it_spoils_anything():
    run = trainer(capture=True)
    step, weights = run.scheduler.step, {}

    def spoiling():
        step()
        if run.scheduler.current_step == 5:
            run.model.first.weight.data[0, 0] = np.inf
            weights.update(run.model.state_dict())

    run.scheduler.step = spoiling
    with np.errstate(all="ignore"), pytest.raises(NonFiniteLossError) as caught:
        run.fit(3)
    assert caught.value.step == 6 and caught.value.layer == "first"
    assert_same_weights(run.model.state_dict(), weights)


def test_the_memory_of_a_captured_step_goes_with_the_training():
    run = trainer(capture=True)
    step, seen = run.scheduler.step, []

    def looking():
        step()
        seen.append(weakref.ref(run._stepper._captured))

    run.scheduler.step = looking
    run.fit(1)
    gc.collect()
    assert seen[-1]() is None


def test_optimizers_are_captured_alike():
    runs = []
    for capture in (True, False):
        run = trainer(capture=capture)
        run.optimizer = optim.AdamW(run.model.parameters(), lr=0.01)
        run.scheduler = optim.Scheduler(run.optimizer, run.schedule)
        run.fit(2)
        runs.append(run)
    _assert_same_run(*runs)


def test_an_optimizer_of_some_parameters_leaves_the_others_alone_and_its_steps_are_captured():
    runs = {}
    for how in ("captured", "eager", "frozen"):
        run = runs[how] = trainer(capture=how != "eager")
        run.model.first.requires_grad_(how != "frozen")
        run.optimizer = optim.SGD(run.model.head.parameters(), lr=0.1, momentum=0.9)
        run.scheduler = optim.Scheduler(run.optimizer, run.schedule)
        before = run.model.state_dict()
        assert fit_captured(run, 2) == (how != "eager")
        changed = {name for name, array in run.model.state_dict().items() if (array != before[name]).any()}
        assert changed == {"head.weight", "head.bias"}
    _assert_same_run(runs["captured"], runs["eager"])
    _assert_same_run(runs["captured"], runs["frozen"])
    frozen, eager = runs["frozen"].model.first.weight, runs["eager"].model.first.weight
    assert frozen.grad is None and eager.grad is not None


def test_a_wrong_setting_is_refused():
    with pytest.raises(ValueError, match="capture must be True, False or 'auto', got 'yes'"):
        trainer(capture="yes")
