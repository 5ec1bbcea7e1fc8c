"""When a design is not worth training, and when training is not worth going on with.

Both ask whether the trial could still reach the front. It could not if even its optimistic point, its costs with the
highest accuracy it may yet come to, is dominated by a finished trial: one that is no worse in any cost, and as accurate
as the optimist hopes.

    before training     the optimist hopes for the plan's ceiling (1.0: every image right, so that nothing is rejected
                        unless a finished trial got there); costs above the plan's limits are no matter of hope
    after epoch e       the optimist hopes for the trial's best accuracy so far, plus the largest gain that any finished
                        trial made from its own best by epoch e to its last epoch, plus MARGIN, but no more than the
                        ceiling; and never before ENOUGH trials have finished

Trials that were stopped give no gains, so the largest gain is that of trials that were worth finishing; those include
every trial that came close to the front, which are the ones it must not fall short of.
"""

from __future__ import annotations

from .objectives import OBJECTIVES

ENOUGH = 5  # finished trials before one is stopped early
MARGIN = 0.005  # accuracy: a seed's difference


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
    if not plan.early or not trial.curve:
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
