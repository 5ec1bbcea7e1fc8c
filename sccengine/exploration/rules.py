"""When a design is not worth training, and when training is not worth going on with.

Both ask whether the trial could still reach the front. It could not if even its optimistic point, its costs with the
highest accuracy it may yet come to, is dominated by a finished trial: one that is no worse in any cost, and as accurate
as the optimist hopes. Accuracies of trials are means over their trainings.

    before training     the optimist hopes for the plan's ceiling (1.0: every image right, so that nothing is rejected
                        unless a finished trial got there); costs above the plan's limits are no matter of hope
    after epoch e       the optimist hopes for the training's best accuracy so far, plus the largest gain that any
                        training of a finished trial made from its own best by epoch e to its last epoch, plus MARGIN,
                        but no more than the ceiling; and that trainings to come are by MARGIN better than the best of
                        those that are over, or as good as is hoped for the one under way; never before ENOUGH trials
                        have finished, or in the first quarter of a training's epochs

The largest gain is that of the trials that finished, so it only grows while the study goes on, but a trial that was
stopped can no longer show that it would have gained more: hence ENOUGH trials that nothing stops, and the margin. On
the digits, whose 359 test images give an accuracy a standard error of half a point to a point, margins below 0.02
stopped designs of the front in replayed searches, and this one none.
"""

from __future__ import annotations

from statistics import fmean

from sccengine.exploration.objectives import OBJECTIVES

ENOUGH = 8  # finished trials before one is stopped early
MARGIN = 0.02  # accuracy


def rejection(plan, values, trials):
    """Why a design with these costs (objective -> number) need not be trained, or None."""
    for name, limit in plan.limits.items():
        if values[name] > limit:
            objective = OBJECTIVES[name]
            return f"{objective.label} {values[name]:g} above the limit of {limit:g}"
    better = _dominator(plan, values, plan.ceiling, trials)
    if better is None:
        return None
    return f"trial {better.number} costs no more and has {better.values['accuracy']:.2%}, the most to be hoped for"


def stopping(plan, trial, trials):
    """Why training `trial`, whose curves are those of its epochs so far, need not go on, or None."""
    finished = [other for other in trials if other.state == "finished"]
    if not plan.early or len(finished) < ENOUGH or 4 * len(trial.curves[-1]) < plan.epochs:
        return None
    hope = optimistic_mean(plan, trial.curves, [curve for other in finished for curve in other.curves])
    better = _dominator(plan, trial.values, hope, finished)
    if better is None:
        return None
    training = f" with seed {trial.seed + len(trial.curves) - 1}" if plan.seeds > 1 else ""
    return (
        f"at most {hope:.2%} to be hoped for after epoch {len(trial.curves[-1])}{training}; "
        f"trial {better.number} costs no more and has {better.values['accuracy']:.2%}"
    )


def optimistic_mean(plan, curves, finished):
    """The highest mean accuracy to be hoped for of a trial with these curves so far, from those of finished trials."""
    over = [curve[-1] for curve in curves if len(curve) == plan.epochs]
    under_way = [optimistic_accuracy(curve, finished) for curve in curves if len(curve) < plan.epochs]
    best = max([*(accuracy + MARGIN for accuracy in over), *under_way])
    to_come = [best] * (plan.seeds - len(curves))
    return fmean([*over, *(min(hope, plan.ceiling) for hope in under_way + to_come)])


def optimistic_accuracy(curve, finished):
    """The highest final accuracy to be hoped for after the epochs of `curve`, from the curves of finished trials."""
    epochs = len(curve)
    gain = max(other[-1] - max(other[:epochs]) for other in finished)
    return max(curve) + max(gain, 0.0) + MARGIN


def _dominator(plan, values, accuracy, trials):
    """A finished trial that is at least as accurate and in no cost worse, or None."""
    for other in trials:
        if other.state == "finished" and other.values["accuracy"] >= accuracy:
            if all(other.values[name] <= values[name] for name in plan.costs):
                return other
    return None
