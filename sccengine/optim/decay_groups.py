"""decay_groups: two parameter groups, so that weight decay leaves biases and batch-norm parameters alone.

Shrinking a bias or a normalisation's scale regularises nothing (the next normalisation undoes it) and slows training.
"""

from __future__ import annotations


def decay_groups(model, weight_decay):
    """Groups for an optimizer: parameters of rank >= 2 get ``weight_decay``, those of rank <= 1 get 0.

    Weights of convolutions, SCC and linear layers have rank >= 2; every bias and every batch-norm parameter has rank 1.

        optimizer = optim.SGD(optim.decay_groups(model, 5e-4), lr=0.1, momentum=0.9)

    Raises TypeError unless ``model`` is a Module.
    """
    if not callable(getattr(model, "parameters", None)):
        raise TypeError(f"decay_groups: model must be a Module, got {type(model).__name__}")
    decayed, others = [], []
    for parameter in model.parameters():
        (decayed if len(parameter.shape) >= 2 else others).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
