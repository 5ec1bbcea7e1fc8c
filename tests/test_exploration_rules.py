"""Designs that are not trained, and training that is not gone on with, on invented curves."""

import pytest

from sccengine.exploration import Design, Plan, Space, Trial
from sccengine.exploration.rules import ENOUGH, MARGIN, optimistic_accuracy, optimistic_mean, rejection, stopping

PLAN = Plan(Space(), objectives=("accuracy", "params", "macs"), epochs=4)


def finished(number, curve, params, macs=10):
    values = {"params": params, "macs": macs, "accuracy": curve[-1]}
    return Trial(number, Design(), "finished", values, epochs=len(curve), curves=[curve])


def running(*curves, params, macs=10):
    return Trial(99, Design(), "running", {"params": params, "macs": macs}, seed=3, curves=curves)


# All gain 0.2 from the second epoch on, number 0 ends highest.
OTHERS = [finished(i, (0.3, 0.75 - i / 100, 0.8, 0.95 - i / 100), 100 - i) for i in range(ENOUGH)]
CURVES = [curve for trial in OTHERS for curve in trial.curves]


def test_hope_is_the_best_so_far_plus_the_largest_gain_seen_from_there():
    assert optimistic_accuracy((0.5,), CURVES) == pytest.approx(0.5 + 0.65 + MARGIN)
    assert optimistic_accuracy((0.5, 0.4), CURVES) == pytest.approx(0.5 + 0.2 + MARGIN)
    assert optimistic_accuracy((0.1, 0.2, 0.3), CURVES) == pytest.approx(0.3 + 0.15 + MARGIN)


def test_a_loss_of_all_others_is_no_reason_to_expect_one():
    assert optimistic_accuracy((0.5, 0.9), [(0.9, 0.95, 0.9)] * ENOUGH) == pytest.approx(0.9 + MARGIN)


def test_nothing_is_stopped_before_enough_have_finished():
    assert stopping(PLAN, running((0.1, 0.1), params=200), OTHERS[1:]) is None
    assert stopping(PLAN, running((0.1, 0.1), params=200), OTHERS) is not None
    stopped = [trial.changed(state="stopped") for trial in OTHERS]
    assert stopping(PLAN, running((0.1, 0.1), params=200), stopped) is None


@pytest.mark.parametrize("best, ends", [(0.95 - 0.2 - MARGIN + 1e-6, False), (0.95 - 0.2 - MARGIN - 1e-6, True)])
def test_training_ends_where_even_the_optimist_is_dominated(best, ends):
    reason = stopping(PLAN, running((best, 0.1), params=200), OTHERS)
    assert (reason is not None) == ends
    if ends:
        assert "after epoch 2; trial 0 costs no more and has 95.00%" in reason


def test_a_trial_that_is_cheaper_in_any_way_goes_on():
    assert stopping(PLAN, running((0.1, 0.1), params=90), OTHERS) is None
    assert stopping(PLAN, running((0.1, 0.1), params=200, macs=9), OTHERS) is None
    # As cheap as number 3, whose 0.92 is all that it has to reach.
    assert stopping(PLAN, running((0.1, 0.73), params=97), OTHERS) is None
    assert stopping(PLAN, running((0.1, 0.70), params=97), OTHERS) is not None


def test_the_ceiling_bounds_hope():
    plan = Plan(Space(), objectives=PLAN.objectives, epochs=4, ceiling=0.95)
    assert stopping(PLAN, running((0.94, 0.94), params=200), OTHERS) is None
    assert stopping(plan, running((0.94, 0.94), params=200), OTHERS) is not None


def test_early_stopping_can_be_switched_off():
    plan = Plan(Space(), objectives=PLAN.objectives, early=False)
    assert stopping(plan, running((0.1, 0.1), params=200), OTHERS) is None


def test_a_design_is_rejected_only_where_the_ceiling_was_reached_for_less():
    costs = {"params": 101, "macs": 10}
    assert rejection(PLAN, costs, OTHERS) is None
    perfect = [*OTHERS, finished(7, (1.0,), 100)]
    assert rejection(PLAN, costs, perfect).startswith("trial 7 costs no more and has 100.00%")
    assert rejection(PLAN, {"params": 99, "macs": 11}, perfect) is None
    plan = Plan(Space(), objectives=PLAN.objectives, ceiling=0.95)
    assert rejection(plan, costs, OTHERS).startswith("trial 0")
    assert rejection(plan, costs, [OTHERS[0].changed(state="running")]) is None


def test_a_design_above_a_limit_is_rejected_at_once():
    plan = Plan(Space(), objectives=PLAN.objectives, limits={"macs": 10})
    assert rejection(plan, {"params": 1, "macs": 10}, []) is None
    assert (
        rejection(plan, {"params": 1, "macs": 11}, []) == "multiply-accumulates of one image 11 above the limit of 10"
    )


def test_the_first_quarter_of_the_epochs_decides_nothing():
    plan = Plan(Space(), objectives=PLAN.objectives, epochs=9)
    others = [trial.changed(curves=[(0.9,) * 9], values={**trial.values, "accuracy": 0.9}) for trial in OTHERS]
    assert stopping(plan, running((0.1, 0.1), params=200), others) is None
    assert stopping(plan, running((0.1, 0.1, 0.1), params=200), others) is not None


def test_the_mean_of_several_trainings_is_hoped_for():
    plan = Plan(Space(), objectives=PLAN.objectives, epochs=4, seeds=3)
    over, under_way = (0.3, 0.6, 0.7, 0.8), (0.2, 0.4)
    hope = 0.4 + 0.2 + MARGIN  # of the one under way
    assert optimistic_mean(plan, [under_way], CURVES) == pytest.approx(hope)
    assert optimistic_mean(plan, [over], CURVES) == pytest.approx(0.8 + MARGIN * 2 / 3)
    assert optimistic_mean(plan, [over, under_way], CURVES) == pytest.approx((0.8 + hope + 0.8 + MARGIN) / 3)
    assert optimistic_mean(plan, [over, under_way, over], CURVES) == pytest.approx((0.8 + hope + 0.8) / 3)
    assert optimistic_mean(plan, [over, over, over], CURVES) == pytest.approx(0.8)
    low = Plan(Space(), objectives=PLAN.objectives, epochs=4, seeds=3, ceiling=0.81)
    assert optimistic_mean(low, [over], CURVES) == pytest.approx((0.8 + 0.81 + 0.81) / 3)


def test_a_later_training_is_stopped_by_the_mean_to_be_hoped_for():
    plan = Plan(Space(), objectives=PLAN.objectives, epochs=4, seeds=2)
    over = (0.3, 0.6, 0.9, 0.94)
    assert stopping(plan, running(over, (0.75, 0.75), params=200), OTHERS) is None
    assert stopping(plan, running((0.74, 0.74), params=200), OTHERS) is None
    reason = stopping(plan, running(over, (0.7, 0.71), params=200), OTHERS)
    assert reason.startswith("at most 93.50% to be hoped for after epoch 2 with seed 4; trial 0 costs no more and has")
