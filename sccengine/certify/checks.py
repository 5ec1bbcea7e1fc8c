"""The parts of a layer's certificate: triples, gradients, repeats. Each gives plain values, and adds to `problems`."""

from __future__ import annotations

import hashlib

import numpy as np

from sccengine import backend
from sccengine.autograd import Tensor
from sccengine.certify import probes
from sccengine.certify.definition import codes, first_difference
from sccengine.certify.plans import enumerate_plans
from sccengine.gradcheck import check_gradients

RUNS = 5
_SIDE = 3
# Multiply-accumulates of a repeated run: enough for the kernels to share them out to threads.
_MACS = 1 << 22
_MOST_PIXELS = 1 << 7

# The launchers as layers and the tuner call them: one gradient a launch, all of them, all but the input's; and forward
# for one image, which may go another way.
_PROBES = {
    probes.Contraction: {
        "forward": probes.forward_triples,
        "backward_input": probes.input_triples,
        "backward_weight": probes.weight_triples,
    },
    probes.AllGradients: {"backward, dx": probes.input_triples, "backward, dweight": probes.weight_triples},
    probes.WeightGradients: {"backward without dx, dweight": probes.weight_triples},
    probes.FewColumns: {"forward of few columns": probes.forward_triples},
}


def check_triples(layer, device, problems):
    """{"count", "sha256" of the set, "plans": how many tables were read, "kernels": {variant: {dtype: [passes]}}}."""
    table, windows = layer.table(), layer.windows()
    channels = windows.in_channels
    wanted = codes(table, channels)
    size = windows.width, channels
    plans = enumerate_plans(windows)
    for name, found in plans.items():
        if problem := _compared(found, wanted, *size):
            problems.append(f"plan {name}: {problem}")
    kernels = {}
    for variant, dtype in _variants(device):
        where = f"variant {variant} in {dtype}"
        for kind, asked in _PROBES.items():
            run = kind(windows, variant, dtype, device)
            for launcher, probe in asked.items():
                try:
                    problem = _compared(probe(run), wanted, *size)
                except probes.Fault as fault:
                    problem = str(fault)
                if problem:
                    problems.append(f"{launcher} of {where}: {problem}")
                else:
                    kernels.setdefault(variant, {}).setdefault(dtype, []).append(launcher)
            if problem := probes.exact_results(run, table):
                problems.append(f"{', '.join(asked)} of {where}: {problem}")
    digest = hashlib.sha256(wanted.astype("<i8").tobytes()).hexdigest()
    return {"count": len(wanted), "sha256": digest, "plans": len(plans), "kernels": kernels}


def check_gradcheck(layer, device, problems):
    """{variant: largest difference from central differences in float64, as a share of what is allowed}, None where it
    is not the same each time."""
    found = {}
    for variant in _variants_of(layer, device, "float64"):
        random = np.random.Generator(np.random.Philox(1))
        inputs = [random.standard_normal(shape) for shape in layer.shapes(2, _side(layer))]
        tensors = [Tensor(array, device=device) for array in inputs]
        try:
            share = check_gradients(lambda *t, v=variant: layer.call(*t, variant=v), tensors)
        except AssertionError as error:
            problems.append(f"gradcheck of {_named(variant)}: {error}")
        else:
            found[variant] = float(f"{share:.3g}") if _deterministic(variant, device) else None
    return found


def check_repeats(layer, device, problems):
    """{"runs", "threads", "same": variants whose output and gradients had the same bits in all of them,
    "not_deterministic": variants of which that is not asked}."""
    names = _variants_of(layer, device, "float32")
    chosen = [name for name in names if _deterministic(name, device)]
    threads = thread_counts(device)
    same = [name for name in chosen if not _differs(layer, device, name, threads, problems)]
    others = [name for name in names if name not in chosen]
    return {"runs": RUNS, "threads": threads, "same": same, "not_deterministic": others}


def _differs(layer, device, variant, threads, problems):
    random = np.random.Generator(np.random.Philox(2))
    inputs = [random.standard_normal(shape).astype(np.float32) for shape in layer.shapes(*_busy(layer, device))]
    gradient, first = None, None
    before = backend.num_threads() if device == "cpu" else None
    try:
        for run in range(RUNS):
            count = threads[run % len(threads)] if threads else None
            if count is not None:
                backend.set_num_threads(count)
            tensors = [Tensor(array, requires_grad=True, device=device) for array in inputs]
            output = layer.call(*tensors, variant=variant)
            if gradient is None:
                gradient = random.standard_normal(output.shape).astype(np.float32)
            output.backward(Tensor(gradient, device=device))
            names = ("output", "dx", "dweight", "dbias")
            bits = [output.numpy().tobytes(), *(tensor.grad.numpy().tobytes() for tensor in tensors)]
            for name, here, there in zip(names, bits, first or bits):
                if here != there:
                    on = f" on {count} threads" if count else ""
                    problems.append(f"repeats of {_named(variant)}: {name} has other bits in run {run + 1}{on}")
                    return True
            first = first or bits
    finally:
        if before is not None:
            backend.set_num_threads(before)
    return False


def _compared(found, wanted, width, channels):
    repeated = found[:-1][found[1:] == found[:-1]]
    if len(repeated):
        return f"touches a triple twice: {first_difference(repeated[:1], repeated[:0], width, channels)}"
    return first_difference(found, wanted, width, channels)


def _kernels(device):
    return backend.kernels_for(backend.to_device(np.zeros(1, np.float32), device)).scc


def _variants(device):
    """(variant, dtype) of all that run on the device."""
    like = backend.to_device(np.zeros(1, np.float32), device)
    kernels = _kernels(device)
    return [
        (name, dtype)
        for name, variant in kernels.VARIANTS.items()
        if kernels.problem(name, like) is None
        for dtype in variant.dtypes
    ]


def _variants_of(layer, device, dtype):
    """The variants that the layer can be asked for in a dtype and full precision: "auto" for all but "scc"."""
    if layer.operator != "scc":
        return ["auto"]
    full = {name for name, variant in _kernels(device).VARIANTS.items() if variant.precision == "highest"}
    return [name for name, kind in _variants(device) if kind == dtype and (kind == "float32" or name in full)]


def _deterministic(variant, device):
    return variant == "auto" or _kernels(device).VARIANTS[variant].deterministic


def _named(variant):
    return "the layer" if variant == "auto" else f"variant {variant}"


def _side(layer):
    return max(_SIDE, *layer.settings.get("kernel_size", (1,)))


def thread_counts(device):
    """Numbers of threads to go through: 1 and 2, where the machine has them."""
    if device != "cpu":
        return []
    try:
        before = backend.num_threads()
        backend.set_num_threads(2)
        backend.set_num_threads(before)
        return [1, 2]
    except ValueError:
        return [1]


def _busy(layer, device):
    """(batch, side) that give the kernels enough to do; in the simulator, as little as is possible."""
    side = 2 * _side(layer) + 1
    if device == "simulator":
        return 2, _side(layer)
    macs = int(np.prod(layer.shapes(1, side)[1])) * (side * side if layer.operator != "linear" else 1)
    return min(_MOST_PIXELS, max(2, _MACS // macs)), side
