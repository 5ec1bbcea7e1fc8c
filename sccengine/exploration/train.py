"""Training one trial, as ``sccengine train`` would: an ordinary run directory, resumed if it was begun."""

from __future__ import annotations

from sccengine.training.job import build_trainer


def train_trial(plan, trial, folder, watch, data_dir=None, device=None):
    """Train the design of `trial` in the run directory `folder`, from its newest checkpoint if there is one.

    watch   called with the training.History after every epoch but the last; ends the training where it returns True

    Returns the History. Raises what ``training.Trainer.fit`` raises; TrainingInterrupted leaves a checkpoint.
    """
    trainer = build_trainer(
        plan.run_options(trial),
        plan.epochs,
        data_dir,
        device,
        out=folder,
        keep=2,
        progress="quiet",
        checkpoint_seconds=30,
    )
    return trainer.fit(plan.epochs, resume=True, watch=watch)
