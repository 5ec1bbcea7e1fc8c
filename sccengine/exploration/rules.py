"""When a design is not worth training, and when training is not worth going on with.

Both ask whether the trial could still reach the front. It could not if even its optimistic point, its costs with the
highest accuracy it may yet come to, is dominated by a finished trial: one that is no worse in any cost, and as accurate
as the optimist hopes.

    before training     the optimist hopes for the plan's ceiling (1.0: every image right, so that nothing is rejected
                        unless a finished trial got there); costs above the plan's limits are no matter of hope
    after epoch e       the optimist hopes for the trial's best accuracy so far, plus the largest gain that any finished
                        trial made from its own best by epoch e to its last epoch, plus MARGIN, but no more than the
                        ceiling; and never before ENOUGH trials have finished, or in the first quarter of the epochs

The largest gain is that of the trials that finished, so it only grows while the study goes on, but a trial that was
stopped can no longer show that it would have gained more: hence ENOUGH trials that nothing stops, and the margin. On
the digits, whose 359 test images give an accuracy a standard error of half a point to a point, margins below 0.02
stopped designs of the front in replayed searches, and this one none.
"""

from __future__ import annotations

from .objectives import OBJECTIVES

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
    """Why training `trial`, whose curve is that of its epochs so far, need not go on, or None."""
    if not plan.early or 4 * len(trial.curve) < plan.epochs:
        return None
    hope = optimistic_accuracy(trial.curve, [other.curve for other in trials if other.state == "finished"])
    if hope is None:
        return None
    better = _dominator(plan, trial.values, min(hope, plan.ceiling), trials)
    if better is None:
        return None
    return (
        f"at most {min(hope, plan.ceiling):.2%} to be hoped for after epoch {len(trial.curve)}; "
        f"trial {better.number} costs no more and has {better.values['accuracy']:.2%}"
    )


def optimistic_accuracy(curve, finished):
    """The highest final accuracy to be hoped for after the epochs of `curve`, from the curves of finished trials.

    None as long as they are too few to tell.
    """
    if len(finished) < ENOUGH:
        return None
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
