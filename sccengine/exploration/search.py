"""Which design comes next: grid and random search, and Optuna's NSGA-II and TPE.

Optuna is asked, never left in charge: for each proposal a study in memory is told the record of all trials, and asked
for one more. The record alone therefore decides what comes next, whichever process asks.
"""

from __future__ import annotations

import math
import warnings

from sccengine.data.counter import EXPLORATION, Draws
from sccengine.exploration.objectives import OBJECTIVES

_ASKS = 20  # proposals of a sampler that may be designs already tried, before chance decides
_TRIES = 500  # designs drawn at random that may have been tried, before the rest is taken in order
_TOLD = ("finished", "stopped", "rejected")


def propose(plan, trials):
    """The next Design to try after `trials` (in order), none of theirs, or None if there is no other."""
    taken = {trial.design for trial in trials}
    if plan.sampler in ("nsga2", "tpe"):
        for design in _optuna_designs(plan, trials):
            if design not in taken:
                return design
    if plan.sampler != "grid":
        for number in range(len(trials), len(trials) + _TRIES):
            if (design := plan.space.sample(plan.seed, number)) not in taken:
                return design
    return next((design for design in plan.space.grid() if design not in taken), None)


def choose_sampler(space, trials):
    """The sampler for a budget of `trials`: all designs if it lets them, else NSGA-II, or random without Optuna."""
    if trials is None or trials >= space.size:
        return "grid"
    try:
        import_optuna()
    except ImportError:
        return "random"
    return "nsga2"


def import_optuna():
    """The module. Raises ImportError that says how to get it."""
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            f"the samplers nsga2 and tpe and the dashboard need Optuna ({error}): "
            f'pip install "sccengine[explore]"; the samplers grid and random do not'
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def tell(plan, trials, study=None, *, storage=None, sampler=None, name=None):
    """The Optuna study, by default a new one, to which these trials are told: those with values as complete.

    A rejected trial has no accuracy; it stands with the lowest one seen, dominated as it is.
    """
    optuna = import_optuna()
    if study is None:
        directions = [OBJECTIVES[objective].direction for objective in plan.objectives]
        study = optuna.create_study(storage=storage, sampler=sampler, directions=directions, study_name=name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(plan.objectives))
    complete, running = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.RUNNING
    distributions = _distributions(optuna, plan.space)
    lowest = min((trial.values["accuracy"] for trial in trials if "accuracy" in trial.values), default=0.0)
    for trial in trials:
        if trial.state == "failed":
            continue
        values = {"accuracy": lowest, **trial.values}
        told = trial.state in _TOLD
        study.add_trial(
            optuna.trial.create_trial(
                state=complete if told else running,
                values=[values[objective] for objective in plan.objectives] if told else None,
                params=_parameters(plan.space, trial.design),
                distributions=distributions,
                user_attrs={"trial": trial.number, "design": trial.design.name, "state": trial.state},
            )
        )
    return study


def _optuna_designs(plan, trials):
    """What the sampler proposes, one after another; the same designs may come again."""
    optuna = import_optuna()
    seed = int(Draws(plan.seed, EXPLORATION, len(trials), 1).integers(1, 1 << 32)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if plan.sampler == "tpe":
            sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True)
        else:
            trials = [trial for trial in trials if trial.state in _TOLD]
            sampler = _nsga2(optuna, _population(plan.trials), seed)
        study = tell(plan, trials, sampler=sampler)
        distributions = _distributions(optuna, plan.space)
        for _ in range(_ASKS):
            asked = study.ask(distributions)
            yield plan.space.design(_answers(plan.space, asked.params))
            study.tell(asked, state=optuna.trial.TrialState.FAIL)


def _population(trials):
    """Parents that NSGA-II keeps: an eighth of a small budget, Optuna's own 50 for a large one."""
    return 50 if trials is None else min(50, max(4, math.ceil(trials / 8)))


def _nsga2(optuna, population, seed):
    """NSGA-II in its steady-state form: every child has the best of all trials so far as parents, by rank and crowding.

    Whole generations are too few in the tens of trials that training allows: on an invented problem of eight decisions
    and 40 trials they found less than chance did, and this form more. For the same reason children vary a good deal.
    """

    class SteadyState(optuna.samplers.NSGAIISampler):
        def get_trial_generation(self, study, trial):
            return int(trial.number >= self.population_size)

        def get_population(self, study, generation):
            return study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])

    return SteadyState(population_size=population, crossover_prob=0.5, mutation_prob=0.25, seed=seed)


def _distributions(optuna, space):
    """Decision -> distribution of its place among its options: numbers in order, names as categories."""
    found = {}
    for name, options in space.decisions.items():
        if len(options) > 1 and isinstance(options[0], str):
            found[name] = optuna.distributions.CategoricalDistribution(options)
        elif len(options) > 1:
            found[name] = optuna.distributions.IntDistribution(0, len(options) - 1)
    return found


def _parameters(space, design):
    """The answers that lead to a design, as the distributions have them."""
    answers = space.answers(design)
    found = {}
    for name, options in space.decisions.items():
        if len(options) > 1:
            answer = answers[name]
            found[name] = answer if isinstance(answer, str) else sorted(options).index(answer)
    return found


def _answers(space, parameters):
    """The way back: options of every decision; the only one where nothing was to be decided."""
    found = {name: options[0] for name, options in space.decisions.items()}
    for name, value in parameters.items():
        found[name] = value if isinstance(value, str) else sorted(space.decisions[name])[value]
    return found
