"""Where a number stopped being finite: run the batch again and look at every layer's output in turn."""

from __future__ import annotations

import numpy as np

from sccengine import backend
from sccengine.autograd import no_grad
from sccengine.models.mode import watched


def find_non_finite(model, run):
    """(name of the layer, sentence about it) for the first layer of `model` whose output is not finite during `run()`.

    (None, sentence) if every layer's output is finite. `run` calls the model once, in the state in which the trouble
    showed.
    """
    found = []

    def see(name, module, inputs, output):
        if not found and (bad := _count_bad(output.data)):
            name = name or type(module).__name__
            found.append((name, _describe(name, module, inputs, output, bad)))

    with watched(dict(model.named_modules()), see), no_grad(), np.errstate(all="ignore"):
        run()
    return found[0] if found else (None, "the output of every layer is finite")


def first_bad_array(arrays):
    """The name of the first array (name -> array) with a NaN or an infinity, or None."""
    return next((name for name, array in arrays.items() if _count_bad(array)), None)


def _describe(name, module, inputs, output, bad):
    parameters = {key: parameter.data for key, parameter in module.named_parameters()}
    if culprit := first_bad_array(parameters):
        reason = f"its {culprit} is not finite either: an earlier update blew it up"
    elif any(_count_bad(x.data) for x in inputs):
        reason = "its input is not finite either"
    else:
        reason = "its input and parameters are finite"
    return (
        f"the first layer with a non-finite output is {name} ({type(module).__name__}): "
        f"{bad:,} of {output.size:,} values; {reason}"
    )


def _count_bad(array):
    array = backend.to_host(array)
    return 0 if array.dtype.kind != "f" else int(array.size - np.isfinite(array).sum())
