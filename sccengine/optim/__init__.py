"""Optimizers, learning-rate schedules and gradient clipping."""

from sccengine.optim import schedules
from sccengine.optim.adamw import AdamW
from sccengine.optim.clip_grad_norm import clip_grad_norm
from sccengine.optim.decay_groups import decay_groups
from sccengine.optim.optimizer import Optimizer
from sccengine.optim.schedules import Scheduler
from sccengine.optim.sgd import SGD

__all__ = ["SGD", "AdamW", "Optimizer", "Scheduler", "clip_grad_norm", "decay_groups", "schedules"]
