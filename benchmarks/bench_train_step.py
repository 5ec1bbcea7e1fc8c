"""A training step of the small network (models.build("dscnet")) against the same network written in PyTorch.

    python benchmarks/bench_train_step.py [--device cuda] [--list] [--axis scheme=dw+scc] [--json FILE]

A step is forward, cross-entropy, backward and SGD with momentum 0.9, at batch 64 on 8x8x1 images already on the device.
All start from the same weights and see the same batches. Before timing, the losses of the first steps are compared
with a float64 network made of sccengine.reference; afterwards the last timed loss must be finite. The floor counts the
convolutions' and the linear layer's arithmetic (three times the forward pass; the first layer needs no dx) and the
parameters' traffic.
"""

from __future__ import annotations

import sys

import harness
import numpy as np
import oracle_dscnet
import peers

from sccengine.windows import ChannelWindows

SCHEMES = ("dw+scc", "dw+pw")
GROUPS, OVERLAP = 2, 0.5
SETTINGS = {"lr": 0.05, "momentum": 0.9}
ENGINE = "sccengine"
_CHECKED_STEPS = 4
_BATCHES = 8


def build(scheme):
    """The network that all competitors copy, freshly initialised, on the CPU."""
    from sccengine import models

    return models.build("dscnet", scheme=scheme, groups=GROUPS, overlap=OVERLAP, in_channels=1)


def inputs_of(axes):
    """Function of a generator that draws weights and batches."""

    def draw(rng):
        import sccengine as scc

        scc.set_seed(int(rng.integers(2**31)))
        shape = (_BATCHES, axes["batch"], 1, axes["image"], axes["image"])
        return {
            "images": rng.standard_normal(shape, dtype=np.float32),
            "labels": rng.integers(0, 10, shape[:2]),
            "state": build(axes["scheme"]).state_dict(),
        }

    return draw


def batches_of(inputs):
    return list(zip(inputs["images"], inputs["labels"]))


def channels(in_channels, out_channels):
    """(O, K): the channel that each tap reads."""
    return ChannelWindows.sliding(in_channels, out_channels, GROUPS, OVERLAP).channels()


def expected(inputs):
    """Losses of the first steps by the float64 oracle."""
    batches = batches_of(inputs)[:_CHECKED_STEPS]
    losses = oracle_dscnet.training_losses(inputs["state"], batches, groups=GROUPS, overlap=OVERLAP, **SETTINGS)
    return {"losses": losses}


def prepare_engine(axes, device, inputs):
    """step() of the engine: returns the loss."""
    import sccengine.functional as F
    from sccengine import Tensor, optim

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


def first_losses(candidate, inputs):
    """What is compared with the oracle: the losses of the first steps."""
    step = candidate.prepare(inputs)
    return {"losses": np.array([float(candidate.read(step())["loss"]) for _ in range(_CHECKED_STEPS)])}


def last_loss_is_finite(_, got):
    """What is asked of the last timed step."""
    return None if np.isfinite(got["loss"]) else f"the loss is {float(got['loss'])}"


def work_of(axes):
    """Operations and bytes that no training step can do without."""
    from sccengine import models

    summary = models.summarize(build(axes["scheme"]), (1, axes["image"], axes["image"]))
    first = next(row.macs for row in summary.rows if row.macs)
    # Parameters, gradients and momentum: each read and written once.
    return harness.Work(2.0 * axes["batch"] * (3 * summary.macs - first), 6 * 4.0 * summary.params)


def candidates_of(axes, device, pytorch):
    """The engine, and PyTorch's formulations; those that differ in the SCC expression only where there is SCC."""
    found = [
        harness.Candidate(
            ENGINE, "engine", lambda i: prepare_engine(axes, device, i), lambda loss: {"loss": loss.numpy()}
        )
    ]
    for name in pytorch.TRAINING_EXPRESSIONS if pytorch else ():
        if "SCC" in name and axes["scheme"] != "dw+scc":
            continue
        found.append(
            harness.Candidate(
                f"torch {name}",
                "pytorch",
                lambda i, n=name: pytorch.training_step(n, i["state"], batches_of(i), channels, device, **SETTINGS),
                lambda loss: {"loss": pytorch.numpy(loss)},
            )
        )
    return found


def cases_of(device, pytorch, batch):
    """One case a scheme."""
    return [
        harness.Case(
            axes,
            candidates_of(axes, device, pytorch),
            work_of(axes),
            inputs_of(axes),
            expected,
            tolerance=1e-4,
            headline="wall" if device == "cuda" else "warm",
            checked=first_losses,
            last_call=last_loss_is_finite,
        )
        for axes in ({"model": "dscnet", "scheme": scheme, "batch": batch, "image": 8} for scheme in SCHEMES)
    ]


def print_summary(rows, output=sys.stdout):
    """Ratio of PyTorch's best step to the engine's, by scheme."""
    print(file=output)
    for row in rows:
        for statistic in ("p50", "least"):
            quotient = harness.ratio(row, ENGINE, statistic)
            text = "-" if quotient is None else f"{quotient:.2f}"
            print(f"{row['case']['scheme']}: best PyTorch / {ENGINE} = {text} ({statistic})", file=output)


def main(arguments=None):
    parser = harness.parser(__doc__)
    parser.add_argument("--batch", type=int, default=64, help="images a step (default 64)")
    options = parser.parse_args(arguments)
    pytorch, absent = peers.load("pytorch")
    if absent:
        print(absent)
    return harness.main(
        parser, options, "bench_train_step", lambda: cases_of(options.device, pytorch, options.batch), print_summary
    )


if __name__ == "__main__":
    sys.exit(main())
