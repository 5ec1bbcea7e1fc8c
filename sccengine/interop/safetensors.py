"""Weights in PyTorch's names, to and from safetensors files.

State-dict keys are PyTorch's already (nn/module.py), and so are all shapes but one: a sliding-channel layer keeps its
(O, K) taps. For a PyTorch model that computes it as a masked 1x1 convolution they can be written scattered instead:

    scc="taps"         weight (O, K), as here
    scc="dense"        weight (O, C, 1, 1), zero outside the windows: what torch.nn.Conv2d(C, O, 1) loads
    scc="dense+mask"   the same, and "<layer>.weight_mask", 1 where a filter reads a channel, as torch.nn.utils.prune's

Reading understands all three. The file is that of ``training.save_weights``, so it is checked by its SHA-256, and it
names groups and overlap of each sliding-channel layer; files of other programs have no such record and are read too.
"""

from __future__ import annotations

import numpy as np

from sccengine import nn
from sccengine.files import is_path
from sccengine.training import load_weights, save_weights

FORMS = ("taps", "dense", "dense+mask")
_MASK = "weight_mask"


def save(path, model, scc="taps", metadata=None):
    """Write the weights of `model` as ``state_dict(model, scc)`` gives them.

    metadata: what JSON can hold, kept beside {"scc": form, "windows": layer -> {"groups", "overlap"}} in the record.
    """
    _check("save", path, model)
    windows = {name: {"groups": layer.groups, "overlap": str(layer.overlap)} for name, layer in _layers(model)}
    save_weights(path, state_dict(model, scc), {**(metadata or {}), "scc": scc, "windows": windows})


def load(path, model):
    """Load a safetensors file of any program into `model`; returns the metadata that `save` wrote, or {}.

    Raises CheckpointError for a file that cannot be read, and what ``load_state_dict`` raises for one that does not
    fit the model.
    """
    _check("load", path, model)
    weights, metadata = load_weights(path)
    load_state_dict(model, weights)
    return metadata


def state_dict(model, scc="taps"):
    """Name -> C-contiguous NumPy array of every parameter and buffer; ``scc`` is one of FORMS."""
    if scc not in FORMS:
        raise ValueError(f"scc must be one of {', '.join(map(repr, FORMS))}, got {scc!r}")
    state = model.state_dict()
    if scc == "taps":
        return state
    for name, layer in _layers(model):
        key = _key(name, "weight")
        state[key] = layer.windows.scatter(state[key])[:, :, None, None]
        if scc == "dense+mask":
            state[_key(name, _MASK)] = layer.windows.mask()[:, :, None, None].astype(state[key].dtype)
    return state


def load_state_dict(model, weights):
    """Load name -> array (NumPy arrays, or anything NumPy reads) into `model`, sliding-channel weights in any form.

    Raises RuntimeError where names or shapes do not fit, and ValueError where a dense weight has an entry outside the
    windows of its layer: such a layer must be projected (interop.convert), not cut.
    """
    weights = dict(weights)
    for name, layer in _layers(model):
        key = _key(name, "weight")
        weights.pop(_key(name, _MASK), None)
        if key in weights and np.ndim(weights[key]) == 4:
            weights[key] = _taps(key, np.asarray(weights[key]), layer.windows)
    model.load_state_dict(weights)


def _taps(key, dense, windows):
    wanted = (windows.out_channels, windows.in_channels, 1, 1)
    if dense.shape != wanted:
        raise RuntimeError(f"{key}: a dense weight must have shape {wanted}, got {dense.shape}")
    dense = dense[:, :, 0, 0]
    outside = np.abs(np.where(windows.mask(), 0, dense))
    if outside.any():
        raise ValueError(
            f"{key}: {np.count_nonzero(outside)} weights lie outside the layer's windows, the largest "
            f"{outside.max():.3g}: project a dense layer with sccengine.interop.convert"
        )
    return np.take_along_axis(dense, windows.channels(), axis=1)


def _check(verb, path, model):
    if not is_path(path) or not isinstance(model, nn.Module):
        raise TypeError(
            f"safetensors.{verb}(path, model) takes a path and a Module, "
            f"got {type(path).__name__} and {type(model).__name__}"
        )


def _layers(model):
    for name, layer in model.named_modules():
        if isinstance(layer, nn.SCC):
            yield name, layer


def _key(name, entry):
    return f"{name}.{entry}" if name else entry
