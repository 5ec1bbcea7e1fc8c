"""ReplayedStep: everything about one optimizer step of a replayed run."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sccengine.training.checkpoint import save_weights
from sccengine.training.digests import digest


@dataclass
class ReplayedStep:
    """Optimizer step number `step`; of step 0, the state before the first, there are only `weights`.

    epoch, batch   counted from 1
    rates          the learning rates of its parameter groups
    loss, right    mean loss of the batch, and how many of its images were predicted right
    indices        int64 (N,): which images of the training set were in the batch, in order; labels (N,) theirs
    before, weights   parameters and buffers by name, before the update and after it
    gradients      by parameter name
    activations    [(name of the layer, its output)] in the order in which layers ran
    """

    step: int
    weights: dict
    epoch: int = 0
    batch: int = 0
    rates: list = field(default_factory=list)
    loss: float | None = None
    right: int | None = None
    indices: np.ndarray | None = None
    labels: np.ndarray | None = None
    before: dict = field(default_factory=dict)
    gradients: dict = field(default_factory=dict)
    activations: list = field(default_factory=list)

    def rows(self):
        """A dict for each array in graph order: name, shape, norm of the weight, of gradient and update (or None),
        digest of the weight."""
        return [
            {
                "name": name,
                "shape": list(array.shape),
                "norm": _norm(array),
                "gradient_norm": _norm(self.gradients[name]) if name in self.gradients else None,
                "update_norm": _norm(_update(array, self.before[name])) if name in self.before else None,
                "digest": digest(array),
            }
            for name, array in self.weights.items()
        ]

    def as_dict(self):
        """Plain values, ready for JSON; losses and norms to the bit, arrays as digests."""
        plain = {"step": self.step}
        if self.step:
            plain |= {
                "epoch": self.epoch,
                "batch": self.batch,
                "learning_rates": self.rates,
                "loss": self.loss,
                "loss_bits": self.loss.hex(),
                "right": self.right,
                "images": len(self.indices),
                "indices": self.indices.tolist(),
                "labels": self.labels.tolist(),
                "gradient_norm": float(np.sqrt(sum(_norm(g) ** 2 for g in self.gradients.values()))),
            }
        plain["tensors"] = self.rows()
        plain["activations"] = [
            {"layer": name, "shape": list(array.shape), "digest": digest(array)} for name, array in self.activations
        ]
        return plain

    def save(self, path):
        """A safetensors file of weights (after the step), gradients, batch; the rest of `as_dict` is in its header.

        Raises CheckpointError where it cannot be written.
        """
        arrays = {f"weights.{name}": array for name, array in self.weights.items()}
        arrays |= {f"gradients.{name}": array for name, array in self.gradients.items()}
        if self.step:
            arrays |= {"batch.indices": self.indices, "batch.labels": self.labels}
        known = ("tensors", "indices", "labels")
        save_weights(path, arrays, {key: value for key, value in self.as_dict().items() if key not in known})


def _norm(array):
    return float(np.linalg.norm(array.astype(np.float64).reshape(-1)))


def _update(after, before):
    return after.astype(np.float64) - before.astype(np.float64)
