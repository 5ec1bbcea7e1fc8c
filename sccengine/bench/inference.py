"""A network in evaluation: forward only, no graph recorded, on a batch of images already on the device.

Batch norms are folded and blocks fused where the engine does so in evaluation (nn/fusion.py); "sccengine unfused" is
the same layer by layer, "sccengine captured" the fused network as one graph of launches. An image's logits do not
depend on the others, so the first few of every call are compared with a float64 network made of sccengine.reference.
The floor counts the arithmetic of the convolutions and the linear layer, and the parameters read once.
"""

from __future__ import annotations

import contextlib

import numpy as np

from sccengine import Tensor, backend, capture_step, nn, no_grad
from sccengine.bench import networks, oracle_network
from sccengine.bench.case import Benchmark, Candidate, Case, Work, difference

_TOLERANCE = 1e-4
# Images that are compared: the oracle loops over all taps in Python.
_CHECKED = 4


def case(axes, device):
    """The case of one network."""
    return Case(
        axes,
        [
            _candidate(axes, device, "sccengine", captured=False),
            _candidate(axes, device, "sccengine captured", captured=True),
            _candidate(axes, device, "sccengine unfused", captured=False, context=nn.unfused),
        ],
        _work(axes),
        _drawing(axes),
        lambda inputs: _expected(axes, inputs),
        tolerance=_TOLERANCE,
        checked=lambda candidate, inputs: _first(candidate.read(candidate.prepare(inputs)())),
        last_call=lambda inputs, got: difference(_first(got), _expected(axes, inputs), _TOLERANCE),
    )


def _candidate(axes, device, name, captured, context=contextlib.nullcontext):
    def prepare(inputs):
        model = networks.build(axes)
        model.load_state_dict(inputs["state"])
        model = model.to(device).eval()
        images = Tensor(inputs["images"], device=device)

        def forward(images):
            with no_grad(), context():
                return model(images)

        if not captured:
            return lambda: forward(images)
        take = capture_step(forward, images)
        return lambda: take(images)

    return Candidate(name, "engine", prepare, lambda logits: {"logits": logits.numpy()})


def _first(outputs):
    return {"logits": outputs["logits"][:_CHECKED]}


def _drawing(axes):
    def inputs_of(rng):
        backend.set_seed(int(rng.integers(2**31)))
        state = networks.build(axes).state_dict()
        for name, value in state.items():
            if name.endswith("running_mean"):
                state[name] = rng.normal(0, 0.1, value.shape).astype(np.float32)
            elif name.endswith("running_var"):
                state[name] = rng.uniform(0.5, 1.5, value.shape).astype(np.float32)
        shape = (axes["batch"], *networks.image_shape(axes))
        return {"images": rng.standard_normal(shape, dtype=np.float32), "state": state}

    return inputs_of


def _expected(axes, inputs):
    layers = networks.layers(axes)
    return {"logits": oracle_network.logits(layers, inputs["state"], inputs["images"][:_CHECKED])}


def _work(axes):
    summary = networks.summary(axes)
    return Work(2.0 * axes["batch"] * summary.macs, 4.0 * summary.params)


def _problem(model, batch):
    return dict(model=model, scheme="dw+scc", batch=batch, image=8 if model == "dscnet" else 32)


BENCHMARK = Benchmark(
    "inference",
    [_problem(model, batch) for batch in (64, 1) for model in ("dscnet", "mobilenet", "vgg16")],
    [_problem("dscnet", batch) for batch in (3, 16)],
    case,
    "sccengine",
)
