"""``explore``: a whole exploration in one call, from a script or a notebook."""

from __future__ import annotations

import time
from pathlib import Path

from sccengine.exploration.plan import DEFAULT_EPOCHS, Plan
from sccengine.exploration.search import choose_sampler
from sccengine.exploration.space import Space
from sccengine.exploration.study import Study
from sccengine.training.job import RECIPE, choose_rates


def explore(
    space=None,
    out=None,
    *,
    objectives=("accuracy", "params"),
    sampler="auto",
    trials=40,
    seconds=None,
    epochs=DEFAULT_EPOCHS,
    seed=0,
    seeds=1,
    limits=None,
    ceiling=1.0,
    early=True,
    storage=None,
    study=None,
    data_dir=None,
    device=None,
    on_trial=lambda trial: None,
    **recipe,
):
    """Search `space` (a Space) in the folder `out`, by default runs/explore-DATE, and return the Study.

    objectives, trials, epochs, seed, seeds, limits, ceiling, early   as plan.Plan has them
    sampler         one of plan.SAMPLERS, or "auto": grid where `trials` are enough for all designs, else nsga2 with
                    Optuna installed, random without
    seconds         None, or begin no trial later than so many seconds from now
    storage, study  a postgresql:// URL and a name there, for workers on many machines (postgres.py)
    on_trial        called with a Trial whenever one changes: begun, an epoch done, ended
    recipe          dataset="digits", batch_size=32 ...: options of ``sccengine train``

    Called again with the same arguments, or more trials, it goes on with what is there; in several processes at once
    they share the trials. Raises RunDirectoryError where `out` holds another exploration.

        found = explore(Space(per_layer=True), "runs/mine", trials=20, on_trial=print)
        for trial in found.front():
            print(trial.values, trial.design.name)
    """
    if unknown := sorted(set(recipe) - set(RECIPE)):
        raise TypeError(f"explore: no such option: {', '.join(unknown)}; a recipe has {', '.join(RECIPE)}")
    space = Space() if space is None else space
    options = {**RECIPE, **recipe}
    choose_rates(options)
    if out is None:
        out = Path("runs") / (f"explore-{study}" if study else time.strftime("explore-%Y%m%d-%H%M%S"))
    found = Study(out, storage, study)
    if sampler == "auto":
        sampler = found.plan.sampler if found.exists() else choose_sampler(space, trials)
    plan = Plan(
        space=space,
        objectives=objectives,
        sampler=sampler,
        trials=trials,
        options=options,
        epochs=epochs,
        seed=seed,
        seeds=seeds,
        limits=limits or {},
        ceiling=ceiling,
        early=early,
    )
    found.begin(plan)
    found.run(seconds=seconds, on_trial=on_trial, data_dir=data_dir, device=device)
    return found
