"""Sliding-channel convolution, forward and forward + backward, against PyTorch's ways to write it.

    python benchmarks/bench_scc.py [--device cuda] [--list] [--axis C=64] [--axis pass=forward] [--json FILE]

The engine's candidates: ``F.scc`` and ``nn.SCC`` as users call them (checks, allocation, graph and all), and each
variant's bare kernels on arrays allocated before. PyTorch's: see peers/pytorch.py. Every candidate gets its inputs in
the memory order it likes best. The oracle is sccengine.reference. At the end: for each case the ratio of the best
PyTorch expression's time to F.scc's, and the geometric means. On CUDA ratios are of device time; host time stands
apart.
"""

from __future__ import annotations

import itertools
import sys

import harness
import numpy as np
import peers

from sccengine import backend, reference
from sccengine.windows import ChannelWindows

SHAPES = [(16, 64, 64, 32), (16, 128, 128, 16), (32, 256, 256, 8), (32, 512, 512, 4)]  # N, C, O, H = W
WINDOWS = [(2, 0.5), (4, 0.5), (8, 0.5), (2, 0.33), (4, 0.25)]  # cg, co
ENGINE = "F.scc"
SMALL = dict(N=2, C=8, O=12, H=5, cg=2, co=0.5)


def inputs_of(axes):
    """Function of a generator that draws x, weight, bias and dy."""
    n, c, o, h = (axes[key] for key in "NCOH")
    shapes = {"x": (n, c, h, h), "weight": (o, c // axes["cg"]), "bias": (o,), "dy": (n, o, h, h)}
    return lambda rng: {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


def expected(axes, inputs):
    """The oracle's answer, by the names that candidates use."""
    settings = (axes["cg"], axes["co"])
    want = {"y": reference.scc_forward(inputs["x"], inputs["weight"], inputs["bias"], *settings)}
    if axes["pass"] == "both":
        gradients = reference.scc_backward(inputs["dy"], inputs["x"], inputs["weight"], *settings)
        want.update(zip(("dx", "dweight", "dbias"), gradients))
    return want


def work_of(axes):
    """2 operations per multiply-accumulate, three contractions in a forward + backward; each array moved once."""
    n, c, o, h = (axes[key] for key in "NCOH")
    weights = o * (c // axes["cg"])
    contraction = 2.0 * n * h * h * weights
    if axes["pass"] == "forward":
        return harness.Work(contraction, 4.0 * (n * h * h * (c + o) + weights + o))
    return harness.Work(3 * contraction, 4.0 * (n * h * h * 2 * (c + o) + 2 * weights + 2 * o))


def prepare_functional(axes, device, inputs):
    """run() through F.scc."""
    import sccengine as scc
    import sccengine.functional as F

    x, weight, bias, dy = _tensors(inputs, device)
    settings = {"groups": axes["cg"], "overlap": axes["co"]}
    return _through_the_graph(axes, x, weight, bias, dy, lambda: F.scc(x, weight, bias, **settings), scc.no_grad)


def prepare_layer(axes, device, inputs):
    """run() through nn.SCC."""
    import sccengine as scc
    from sccengine import nn

    layer = nn.SCC(axes["C"], axes["O"], groups=axes["cg"], overlap=axes["co"]).to(device)
    layer.load_state_dict({"weight": inputs["weight"], "bias": inputs["bias"]})
    x, _, _, dy = _tensors(inputs, device)
    return _through_the_graph(axes, x, layer.weight, layer.bias, dy, lambda: layer(x), scc.no_grad)


def _tensors(inputs, device):
    from sccengine import Parameter, Tensor

    x = Tensor(inputs["x"], requires_grad=True, device=device)
    weight, bias = (Parameter(inputs[key], device=device) for key in ("weight", "bias"))
    return x, weight, bias, Tensor(inputs["dy"], device=device)


def _through_the_graph(axes, x, weight, bias, dy, call, no_grad):
    if axes["pass"] == "forward":

        def forward():
            with no_grad():
                return {"y": call()}

        return forward

    def forward_backward():
        x.grad = weight.grad = bias.grad = None
        y = call()
        y.backward(dy)
        return {"y": y, "dx": x.grad, "dweight": weight.grad, "dbias": bias.grad}

    return forward_backward


def read_tensors(outputs):
    """NumPy arrays of engine tensors."""
    return {name: value.numpy() for name, value in outputs.items()}


def prepare_kernels(axes, device, variant, inputs):
    """run() of one variant's launchers on batch-last arrays, outputs allocated before."""
    windows = ChannelWindows.sliding(axes["C"], axes["O"], axes["cg"], axes["co"])

    def on_device(array):
        return backend.to_device(np.ascontiguousarray(array), backend.resolve_device(device))

    x, dy = (on_device(backend.rows(inputs[key]).reshape(inputs[key].shape[1], -1)) for key in ("x", "dy"))
    weight, bias = on_device(inputs["weight"]), on_device(inputs["bias"])
    y, dx, dweight, dbias = (backend.empty(a.shape, like=a) for a in (dy, x, weight, bias))
    kernels = backend.kernels_for(x)

    def forward():
        kernels.scc.forward(x, weight, bias, y, windows, variant)
        return {"y": y}

    def forward_backward():
        kernels.scc.forward(x, weight, bias, y, windows, variant)
        kernels.scc.backward_input(dy, weight, dx, windows, variant)
        kernels.scc.backward_weight(dy, x, dweight, windows, variant)
        kernels.rows.sum_rows(dy, dbias)
        return {"y": y, "dx": dx, "dweight": dweight, "dbias": dbias}

    return forward if axes["pass"] == "forward" else forward_backward


def read_rows(axes, outputs):
    """NumPy arrays of rows arrays: y and dx back in (N, C, H, W)."""
    image = (axes["H"], axes["H"], axes["N"])
    host = {name: backend.to_host(value) for name, value in outputs.items()}
    return {
        name: backend.from_rows(value.reshape(-1, *image)) if name in ("y", "dx") else value
        for name, value in host.items()
    }


def candidates_of(axes, device, pytorch):
    """Everyone who computes this case."""
    found = [
        harness.Candidate(ENGINE, "engine", lambda i: prepare_functional(axes, device, i), read_tensors),
        harness.Candidate("nn.SCC", "engine", lambda i: prepare_layer(axes, device, i), read_tensors),
    ]
    for variant in _variants(device):
        found.append(
            harness.Candidate(
                f"kernels {variant}",
                "engine",
                lambda i, v=variant: prepare_kernels(axes, device, v, i),
                lambda outputs: read_rows(axes, outputs),
            )
        )
    if pytorch:
        channels = ChannelWindows.sliding(axes["C"], axes["O"], axes["cg"], axes["co"]).channels()
        backward = axes["pass"] == "both"
        for name in pytorch.SCC_EXPRESSIONS:
            found.append(
                harness.Candidate(
                    f"torch {name}",
                    "pytorch",
                    lambda i, n=name: pytorch.prepare_scc(n, i, channels, backward, device),
                    pytorch.read,
                )
            )
    return found


def _variants(device):
    """Those that compute float32 in full: others would be judged by a floor and a tolerance that are not theirs."""
    if device == "cpu":
        from sccengine.kernels.cpu import scc
    else:
        from sccengine.kernels.cuda import scc
    return [name for name, variant in scc.VARIANTS.items() if variant.precision == "highest"]


def cases_of(device, pytorch, small):
    """The 20 problems, forward and both, or one small problem."""
    problems = (
        [SMALL]
        if small
        else [dict(N=n, C=c, O=o, H=h, cg=cg, co=co) for (n, c, o, h), (cg, co) in itertools.product(SHAPES, WINDOWS)]
    )
    cases = []
    for problem, direction in itertools.product(problems, ("forward", "both")):
        axes = {**problem, "pass": direction}
        cases.append(
            harness.Case(
                axes,
                candidates_of(axes, device, pytorch),
                work_of(axes),
                inputs_of(axes),
                lambda inputs, axes=axes: expected(axes, inputs),
            )
        )
    return cases


def print_summary(rows, output=sys.stdout):
    """Ratio of the best PyTorch expression's time to F.scc's, by case, and the geometric means."""
    print(f"\n{'case':<48} {ENGINE:>12} {'PyTorch':>12} {'ratio':>7}  best PyTorch expression", file=output)
    for row in rows:
        axes = " ".join(f"{axis}={value}" for axis, value in row["case"].items())
        mine, theirs = harness.times(row, "engine"), harness.times(row, "pytorch")
        best = min(theirs, key=theirs.get, default=None)
        quotient = harness.ratio(row, ENGINE)
        print(
            f"{axes:<48} {_milliseconds(mine.get(ENGINE)):>12} {_milliseconds(theirs.get(best)):>12} "
            f"{'-' if quotient is None else f'{quotient:.2f}':>7}  {best or '-'}",
            file=output,
        )
    for direction, statistic in itertools.product(("forward", "both"), ("p50", "least")):
        chosen = [row for row in rows if row["case"]["pass"] == direction]
        quotients = [q for row in chosen if (q := harness.ratio(row, ENGINE, statistic)) is not None]
        if quotients:
            print(
                f"geometric mean of {statistic} ratios, {direction}: {harness.geometric_mean(quotients):.2f} "
                f"({sum(q > 1 for q in quotients)} of {len(quotients)} cases faster)",
                file=output,
            )


def _milliseconds(seconds):
    return "-" if seconds is None else f"{seconds * 1e3:.3f} ms"


def main(arguments=None):
    parser = harness.parser(__doc__)
    parser.add_argument("--small", action="store_true", help="one tiny problem instead of the twenty")
    options = parser.parse_args(arguments)
    pytorch, absent = peers.load("pytorch")
    if absent:
        print(absent)

    def cases():
        return cases_of(options.device, pytorch, options.small)

    return harness.main(parser, options, "bench_scc", cases, print_summary)


if __name__ == "__main__":
    sys.exit(main())
