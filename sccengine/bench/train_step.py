"""A training step of a model: dscnet on 1x8x8 images, or one whose layers form a chain on 3x32x32 (MobileNet, VGG).

A step is forward, cross-entropy, backward and SGD with momentum 0.9, on a batch of images already on the device, layer
by layer or captured as one graph of launches, as the Trainer takes it. All start from the same weights and see the same
batches. Before timing, a few steps on one batch, for large models a small one, are compared with a float64 network made
of sccengine.reference: the first loss, and by how much the next ones are lower, in which gradients and updates show.
Afterwards the last timed loss must be finite. The floor counts the arithmetic of the convolutions and the linear layer
(three times the forward pass; the first layer needs no dx) and the parameters' traffic.
"""

from __future__ import annotations

import numpy as np

import sccengine.functional as F
from sccengine import Tensor, backend, capture_step, optim
from sccengine.bench import networks, oracle_network
from sccengine.bench.case import Benchmark, Candidate, Case, Work

LR, MOMENTUM = 0.05, 0.9
_BATCHES = 8
# Steps that are checked; images of their batch (the oracle loops over all taps in Python), their learning rate, and how
# far the gains may be off. A small rate: ReLUs near zero fall on the other side in float32, whoever computes it, and
# the longer the steps and the deeper the network, the more comes of that. At a rate of 0.02 MobileNet's gains are off
# by tens of per cent, in every framework; at this one by 0.2 %.
_CHECKED_STEPS = 3
_CHECKED = {"dscnet": (64, 1e-3, 0.005)}
_CHECKED_LARGE = (8, 5e-5, 0.01)


def case(axes, device):
    """The case of one scheme."""
    return Case(
        axes,
        [_candidate(axes, device, captured) for captured in (True, False)],
        _work(axes),
        _drawing(axes),
        lambda inputs: _expected(axes, inputs),
        tolerance={"loss": 1e-4, "gains": _checking(axes)[2]},
        headline="warm" if device == "cpu" else "wall",
        checked=lambda candidate, inputs: _check(axes, candidate, inputs),
        last_call=_last_loss_is_finite,
    )


def _candidate(axes, device, captured):
    return Candidate(
        "sccengine captured" if captured else "sccengine eager",
        "engine",
        lambda inputs: _prepare(axes, device, inputs, captured),
        lambda loss: {"loss": loss.numpy()},
    )


def batches_of(inputs):
    """List of (images, labels)."""
    return list(zip(inputs["images"], inputs["labels"]))


def _drawing(axes):
    def inputs_of(rng):
        backend.set_seed(int(rng.integers(2**31)))
        shape = (_BATCHES, axes["batch"], *networks.image_shape(axes))
        return {
            "images": rng.standard_normal(shape, dtype=np.float32),
            "labels": rng.integers(0, 10, shape[:2]),
            "state": networks.build(axes).state_dict(),
            "lr": LR,
        }

    return inputs_of


def _checking(axes):
    return _CHECKED.get(axes["model"], _CHECKED_LARGE)


def _checked(axes, inputs):
    """``inputs`` of what is compared with the oracle: one batch again and again."""
    images, lr, _ = _checking(axes)
    again = {name: np.repeat(inputs[name][:1, :images], _CHECKED_STEPS, axis=0) for name in ("images", "labels")}
    return {**inputs, **again, "lr": lr}


def _outcome(losses):
    """The first loss, and by how much the next ones are below it."""
    return {"loss": losses[0], "gains": losses[0] - losses[1:]}


def _expected(axes, inputs):
    """What the float64 oracle makes of the checked steps."""
    inputs = _checked(axes, inputs)
    settings = {"lr": inputs["lr"], "momentum": MOMENTUM}
    layers = networks.layers(axes)
    return _outcome(oracle_network.training_losses(layers, inputs["state"], batches_of(inputs), **settings))


def _prepare(axes, device, inputs, captured):
    """step() of the engine: returns the loss."""
    model = networks.build(axes)
    model.load_state_dict(inputs["state"])
    model = model.to(device)
    model.train()
    optimizer = optim.SGD(model.parameters(), lr=inputs["lr"], momentum=MOMENTUM)
    ready = [(Tensor(x, device=device), Tensor(labels, device=device)) for x, labels in batches_of(inputs)]
    turn = iter(range(2**62))

    def step(images, labels):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    take = capture_step(step, *ready[0]) if captured else step
    return lambda: take(*ready[next(turn) % len(ready)])


def _check(axes, candidate, inputs):
    """What is compared with the oracle."""
    inputs = _checked(axes, inputs)
    step = candidate.prepare(inputs)
    return _outcome(np.array([float(candidate.read(step())["loss"]) for _ in inputs["images"]]))


def _last_loss_is_finite(_, got):
    return None if np.isfinite(got["loss"]) else f"the loss is {float(got['loss'])}"


def _work(axes):
    """Operations and bytes that no training step can do without."""
    summary = networks.summary(axes)
    first = next(row.macs for row in summary.rows if row.macs)
    # Parameters, gradients and momentum: each read and written once.
    return Work(2.0 * axes["batch"] * (3 * summary.macs - first), 6 * 4.0 * summary.params)


def _small(batch):
    return [dict(model="dscnet", scheme=scheme, batch=batch, image=8) for scheme in ("dw+scc", "dw+pw")]


_LARGE = [dict(model=model, scheme="dw+scc", batch=64, image=32) for model in ("mobilenet", "vgg16")]

BENCHMARK = Benchmark("train_step", [*_small(64), *_LARGE], _small(16), case, "sccengine captured")
