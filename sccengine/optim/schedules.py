"""Learning-rate schedules: functions of the step that return a multiplier of the base rate.

A schedule is any callable ``schedule(step) -> float`` with step = 0, 1, 2, ... Being pure, it needs no state: a resumed
run asks it for the next step and gets what the uninterrupted run got. Schedules compose:
``warmup(100, then=cosine(900))``. ``Scheduler`` applies one to an optimizer.
"""

from __future__ import annotations

import math

from sccengine import numeric
from sccengine.optim.optimizer import Optimizer


def constant(multiplier=1.0):
    """The same multiplier at every step."""
    multiplier = numeric.at_least_zero("constant schedule", "multiplier", multiplier)
    return lambda step: multiplier


def cosine(steps, final=0.0):
    """From 1 at step 0 down half a cosine to ``final`` at ``steps`` and after (Loshchilov & Hutter 2017)."""
    steps = numeric.whole("cosine schedule", "steps", steps)
    final = numeric.at_least_zero("cosine schedule", "final", final)

    def multiplier(step):
        done = min(step / steps, 1.0)
        return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * done))

    return multiplier


def step(every=None, factor=0.1, milestones=None):
    """Multiply by ``factor`` each ``every`` steps, or at each of the ``milestones`` (increasing step numbers)."""
    if (every is None) == (milestones is None):
        raise ValueError(f"step schedule takes either every or milestones, got every={every}, milestones={milestones}")
    factor = numeric.at_least_zero("step schedule", "factor", factor)
    if every is not None:
        every = numeric.whole("step schedule", "every", every)
        return lambda step: factor ** (step // every)
    milestones = [numeric.whole("step schedule", "milestones", milestone) for milestone in milestones]
    if any(later <= earlier for earlier, later in zip(milestones, milestones[1:])):
        raise ValueError(f"step schedule: milestones must increase, got {milestones}")
    return lambda step: factor ** sum(step >= milestone for milestone in milestones)


def warmup(steps, then=None, start=0.0):
    """Rise linearly over ``steps`` steps, then follow ``then`` (default constant), counted from the end of the rise.

    Step s uses ``start + (1 - start) * (s + 1) / steps``, so that even the first step learns and step ``steps - 1`` is
    at the full rate.
    """
    steps = numeric.whole("warmup schedule", "steps", steps)
    start = numeric.at_least_zero("warmup schedule", "start", start)
    then = constant() if then is None else then
    if not callable(then):
        raise TypeError(f"warmup: then must be a schedule (a function of the step), got {type(then).__name__}")
    peak = then(0)

    def multiplier(step):
        if step < steps:
            return peak * (start + (1.0 - start) * (step + 1) / steps)
        return then(step - steps)

    return multiplier


class Scheduler:
    """Sets each group's learning rate to its base rate (its ``lr`` at construction) times ``schedule(step)``.

    Construction sets the rate of step 0; call ``step()`` after each ``optimizer.step()``.
    """

    def __init__(self, optimizer, schedule):
        if not callable(schedule):
            raise TypeError(f"Scheduler: schedule must be a function of the step, got {type(schedule).__name__}")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"Scheduler: optimizer must be an Optimizer, got {type(optimizer).__name__}")
        self.optimizer = optimizer
        self.schedule = schedule
        self.base_rates = [group["lr"] for group in optimizer.param_groups]
        self.current_step = 0
        self._apply()

    def _apply(self):
        multiplier = float(self.schedule(self.current_step))
        if not (math.isfinite(multiplier) and multiplier >= 0):
            step = self.current_step
            raise ValueError(f"Scheduler: the schedule gave {multiplier} at step {step}, not a finite number >= 0")
        for group, rate in zip(self.optimizer.param_groups, self.base_rates):
            group["lr"] = rate * multiplier

    def step(self):
        """Go on to the next step and set its learning rates."""
        self.current_step += 1
        self._apply()

    def state_dict(self):
        return {"current_step": self.current_step, "base_rates": list(self.base_rates)}

    def load_state_dict(self, state):
        """Restore the position and base rates, and set the rates of that step."""
        if not isinstance(state, dict):
            raise TypeError(f"Scheduler.load_state_dict takes what state_dict() gave, got {type(state).__name__}")
        missing = [key for key in ("current_step", "base_rates") if key not in state]
        if missing:
            raise ValueError(f"Scheduler.load_state_dict: the state lacks {missing}")
        if len(state["base_rates"]) != len(self.optimizer.param_groups):
            raise ValueError(
                f"Scheduler.load_state_dict: the state has {len(state['base_rates'])} base rates, "
                f"the optimizer {len(self.optimizer.param_groups)} parameter groups"
            )
        step = numeric.whole("Scheduler.load_state_dict", "current_step", state["current_step"], least=0)
        rates = [numeric.at_least_zero("Scheduler.load_state_dict", "base_rates", rate) for rate in state["base_rates"]]
        self.current_step = step
        self.base_rates = rates
        self._apply()
