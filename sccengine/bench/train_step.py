"""A training step of the small network, ``models.build("dscnet")``.

A step is forward, cross-entropy, backward and SGD with momentum 0.9, at batch 64 on 8x8x1 images already on the device.
All start from the same weights and see the same batches. Before timing, the losses of the first steps are compared
with a float64 network made of sccengine.reference; afterwards the last timed loss must be finite. The floor counts the
convolutions' and the linear layer's arithmetic (three times the forward pass; the first layer needs no dx) and the
parameters' traffic.
"""

from __future__ import annotations

import numpy as np

import sccengine.functional as F
from sccengine import Tensor, backend, models, optim
from sccengine.bench import oracle_dscnet
from sccengine.bench.case import Benchmark, Candidate, Case, Work

GROUPS, OVERLAP = 2, 0.5
SETTINGS = {"lr": 0.05, "momentum": 0.9}
_CHECKED_STEPS = 4
_BATCHES = 8


def case(axes, device):
    """The case of one scheme."""
    engine = Candidate(
        "sccengine", "engine", lambda inputs: _prepare(axes, device, inputs), lambda loss: {"loss": loss.numpy()}
    )
    return Case(
        axes,
        [engine],
        _work(axes),
        _drawing(axes),
        _expected,
        headline="warm" if device == "cpu" else "wall",
        checked=_first_losses,
        last_call=_last_loss_is_finite,
    )


def build(scheme):
    """The network that all competitors copy, freshly initialised, on the CPU."""
    return models.build("dscnet", scheme=scheme, groups=GROUPS, overlap=OVERLAP, in_channels=1)


def batches_of(inputs):
    """List of (images, labels)."""
    return list(zip(inputs["images"], inputs["labels"]))


def _drawing(axes):
    def inputs_of(rng):
        backend.set_seed(int(rng.integers(2**31)))
        shape = (_BATCHES, axes["batch"], 1, axes["image"], axes["image"])
        return {
            "images": rng.standard_normal(shape, dtype=np.float32),
            "labels": rng.integers(0, 10, shape[:2]),
            "state": build(axes["scheme"]).state_dict(),
        }

    return inputs_of


def _expected(inputs):
    """Losses of the first steps by the float64 oracle."""
    batches = batches_of(inputs)[:_CHECKED_STEPS]
    losses = oracle_dscnet.training_losses(inputs["state"], batches, groups=GROUPS, overlap=OVERLAP, **SETTINGS)
    return {"losses": losses}


def _prepare(axes, device, inputs):
    """step() of the engine: returns the loss."""
    model = build(axes["scheme"])
    model.load_state_dict(inputs["state"])
    model = model.to(device)
    model.train()
    optimizer = optim.SGD(model.parameters(), **SETTINGS)
    ready = [(Tensor(x, device=device), Tensor(labels, device=device)) for x, labels in batches_of(inputs)]
    turn = iter(range(2**62))

    def step():
        images, labels = ready[next(turn) % len(ready)]
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def _first_losses(candidate, inputs):
    """What is compared with the oracle: the losses of the first steps."""
    step = candidate.prepare(inputs)
    return {"losses": np.array([float(candidate.read(step())["loss"]) for _ in range(_CHECKED_STEPS)])}


def _last_loss_is_finite(_, got):
    return None if np.isfinite(got["loss"]) else f"the loss is {float(got['loss'])}"


def _work(axes):
    """Operations and bytes that no training step can do without."""
    summary = models.summarize(build(axes["scheme"]), (1, axes["image"], axes["image"]))
    first = next(row.macs for row in summary.rows if row.macs)
    # Parameters, gradients and momentum: each read and written once.
    return Work(2.0 * axes["batch"] * (3 * summary.macs - first), 6 * 4.0 * summary.params)


def _problems(batch):
    return [dict(model="dscnet", scheme=scheme, batch=batch, image=8) for scheme in ("dw+scc", "dw+pw")]


BENCHMARK = Benchmark("train_step", _problems(64), _problems(16), case, "sccengine")
