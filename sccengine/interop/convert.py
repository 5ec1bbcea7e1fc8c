"""A trained pointwise network made a sliding-channel one: weights projected onto windows, not trained anew.

A 1x1 convolution with weights W (O, C) becomes an SCC layer whose filter f keeps K of its C channels, those of its
window. How much is lost depends on the order of the channels, which is free: channels between two layers may be
renumbered, if whatever touches them (the producer's filters, batch norms, depthwise filters, the consumers' channels)
is renumbered alike; the network computes the same, and nothing is added to it. So

1. the tape of one forward pass (trace.py) says which tensors share a numbering ("axis" below) and which parameters
   follow it; axes that something pins (the image, the logits, grouped layers) stay as they are;
2. orders are searched that keep the most energy, sum over kept (f, c) of W[f, c]**2 * variance of input channel c.
   For one axis, all others fixed, the energy is a sum over (channel, place) pairs, whether the axis numbers a layer's
   filters or its channels; so the best order is a linear assignment, solved exactly, axis after axis until nothing is
   gained, from several random starts;
3. each filter's kept weights become the least-squares solution: min over v (K,) and b of the mean over pixels of
   (y - v . x[window] - b)**2, y being the original layer's output and x what reaches the layer in the *converted*
   network, so later layers make up for what earlier ones lost. Without calibration images nothing is known of x, and
   the solution is plain truncation.

Fine-tuning from there is ordinary training of the model returned.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from sccengine import nn
from sccengine.autograd import Tensor
from sccengine.interop.assignment import assign
from sccengine.interop.axes import channel_axes
from sccengine.interop.trace import trace
from sccengine.models.mode import device_of_model, evaluation_mode, leaves, watched
from sccengine.windows import ChannelWindows

# Added to the covariance's diagonal, relative to its mean: channels that are always 0 after ReLU have none.
_RIDGE = 1e-6
_MOST_SWEEPS = 50


@dataclass(frozen=True)
class LayerLoss:
    """What a converted layer lost.

    name      the layer's dotted name
    energy    share of the (weighted) energy of the weights that lies outside the windows, after the search
    unsorted  the same in the original order of the channels: what the search started from
    error     root mean square of the layer's output error over that of the output's deviation from its mean, on the
              calibration images; None without them
    """

    name: str
    energy: float
    unsorted: float
    error: float | None


def to_scc(model, input_shape, *, groups=2, overlap=0.5, calibration=None, layers=None, restarts=8, seed=0):
    """(converted copy of `model`, [LayerLoss, ...]); `model` itself is left as it is.

    input_shape   (C, H, W) of one image
    groups, overlap   of the new layers, one value or a sequence with one for each; as in models.schemes, layers of
                  fewer channels than groups get groups=1
    calibration   None, or images (N, C, H, W), prepared as for the model: a few hundred training images do
    layers        names of the 1x1 convolutions to convert; None: every dense one that follows a depthwise convolution
                  (with nothing but batch norm and activations between), so "dw+pw" models become "dw+scc" ones
    restarts      random starts of the search for the channels' order, beside the present order; seed: of those

    The converted state dict fits ``models.build`` of the same model with scheme="dw+scc".

    Raises ValueError where a layer named is not a dense 1x1 convolution, or there is nothing to convert.
    """
    source, device = model, device_of_model(model)
    model = copy.deepcopy(model).to("cpu")
    recorded = trace(model, input_shape, "to_scc")
    axes = channel_axes(recorded, model)
    chosen = _chosen(axes, layers, groups, overlap)
    outputs, variances = {}, {name: None for name in chosen}
    if calibration is not None:
        images = np.ascontiguousarray(calibration, np.float32)
        inputs, outputs = _observed(model, images, chosen)
        variances = {name: _pixels(x).var(axis=1) for name, x in inputs.items()}
    problem = [_Layer(name, *entry, variances[name]) for name, entry in chosen.items()]
    orders = search(problem, axes.sizes(), restarts, seed)
    axes.reorder(orders)
    report = [_replace(model, layer, orders, outputs, calibration) for layer in problem]
    for module, original in zip(model.modules(), source.modules()):
        module.training = original.training
    return model.to(device), report


def project(weight, windows, covariance=None, cross=None):
    """(O, K) weights on `windows` nearest to the dense `weight` (O, C).

    covariance   None for plain truncation, or (C, C) of the inputs x: then the mean square of (weight - v) . x is least
    cross        None, or (C, O), the covariance of x with the outputs to be reproduced, in the place of those of weight
    """
    channels = windows.channels()
    taps = np.take_along_axis(weight, channels, axis=1)
    if covariance is None:
        return taps
    cross = covariance @ weight.T if cross is None else cross
    ridge = _RIDGE * max(np.trace(covariance) / len(covariance), np.finfo(np.float64).tiny)
    solved = np.empty(taps.shape)
    for start in np.unique(windows.starts):
        filters = np.flatnonzero(windows.starts == start)
        kept = channels[filters[0]]
        # The ridge pulls towards the present weights, so that channels without variance keep theirs.
        normal = covariance[np.ix_(kept, kept)] + ridge * np.eye(len(kept))
        wanted = cross[np.ix_(kept, filters)] + ridge * taps[filters].T
        solved[filters] = np.linalg.solve(normal, wanted).T
    return solved.astype(weight.dtype)


def search(layers, sizes, restarts=8, seed=0):
    """Orders of the axes that keep the most energy: axis -> permutation; place p gets the channel permutation[p].

    layers   _Layer entries; sizes: number of channels by axis, of every axis that may be reordered
    """
    random = np.random.default_rng(seed)
    touched = [axis for axis in sizes if any(axis in (layer.reads, layer.writes) for layer in layers)]
    best, most = None, -np.inf
    for attempt in range(1 + restarts):
        orders = {axis: np.arange(size) for axis, size in sizes.items()}
        if attempt:
            orders |= {axis: random.permutation(sizes[axis]) for axis in touched}
        kept = _climb(layers, orders, touched)
        if kept > most:
            best, most = orders, kept
    return best


def _climb(layers, orders, touched):
    """Improve `orders` in place, axis after axis, until a sweep gains nothing; returns the energy kept."""
    kept = sum(layer.kept(orders) for layer in layers)
    for _ in range(_MOST_SWEEPS):
        before = kept
        for axis in touched:
            present = orders[axis]
            gain = sum(layer.gain(axis, orders) for layer in layers if axis in (layer.reads, layer.writes))
            orders[axis] = assign(gain)
            now = sum(layer.kept(orders) for layer in layers)
            # An axis that is both read and written by a layer is not linear: keep what is better.
            if now > kept * (1 + 1e-12):
                kept = now
            else:
                orders[axis] = present
        if kept <= before:
            break
    return kept


class _Layer:
    """A convolution to be converted, as the search sees it.

    reads, writes   the axes that number its channels and its filters
    energy          (O, C) in the original numbering, of sum 1, so that layers count alike
    """

    def __init__(self, name, module, windows, reads, writes, groups, overlap, variance):
        self.name, self.module, self.windows = name, module, windows
        self.reads, self.writes = reads, writes
        self.groups, self.overlap = groups, overlap
        energy = np.square(module.weight.array[:, :, 0, 0], dtype=np.float64)
        if variance is not None:
            energy = energy * variance
        self.energy = energy / max(energy.sum(), np.finfo(np.float64).tiny)
        self.mask = windows.mask().astype(np.float64)

    def _sorted(self, orders, filters=True, channels=True):
        energy = self.energy
        if filters and self.writes in orders:
            energy = energy[orders[self.writes]]
        if channels and self.reads in orders:
            energy = energy[:, orders[self.reads]]
        return energy

    def kept(self, orders):
        """The share of energy within the windows."""
        return float((self._sorted(orders) * self.mask).sum())

    def gain(self, axis, orders):
        """(n, n): the energy kept by putting channel i of `axis` in place p, all else as it is."""
        gain = 0.0
        if axis == self.writes:
            gain = gain + self._sorted(orders, filters=False) @ self.mask.T
        if axis == self.reads:
            gain = gain + self._sorted(orders, channels=False).T @ self.mask
        return gain


def _chosen(axes, layers, groups, overlap):
    """Name -> (module, windows, axis read, axis written, groups, overlap) of the layers to convert, in order."""
    dense = axes.pointwise
    if layers is not None:
        for name in layers:
            if name not in dense:
                raise ValueError(
                    f"convert: {name!r} is no dense 1x1 convolution; there are {', '.join(dense) or 'none'}"
                )
    names = [n for n, entry in dense.items() if (n in layers if layers is not None else entry.after_depthwise)]
    if not names:
        raise ValueError("convert: the model has no dense 1x1 convolution after a depthwise one; name the layers")
    chosen = {}
    settings = zip(_for_each("groups", groups, names), _for_each("overlap", overlap, names), strict=True)
    for name, (asked, share) in zip(names, settings, strict=True):
        entry = dense[name]
        module = entry.module
        used = asked if module.in_channels >= asked else 1
        windows = ChannelWindows.sliding(module.in_channels, module.out_channels, used, share)
        chosen[name] = (module, windows, entry.reads, entry.writes, used, share)
    return chosen


def _for_each(setting, value, names):
    """A value for each of the layers named."""
    values = list(value) if isinstance(value, (list, tuple)) else [value] * len(names)
    if len(values) != len(names):
        raise ValueError(
            f"convert: {setting} must be one value or {len(names)}, one for each of {', '.join(names)}; "
            f"got {len(values)}"
        )
    return values


def _observed(model, images, names):
    """Name -> input and name -> output arrays (N, C, H, W) of the layers named, for the images."""
    inputs, outputs = {}, {}

    def see(name, module, given, output):
        inputs[name], outputs[name] = given[0].numpy(), output.numpy()

    layers = leaves(model)
    with evaluation_mode(model), watched({name: layers[name] for name in names}, see):
        model(Tensor(images, device="cpu"))
    return inputs, outputs


def _pixels(x):
    """(C, M) float64 of (N, C, H, W)."""
    return np.moveaxis(x, 1, 0).reshape(x.shape[1], -1).astype(np.float64)


def _replace(model, layer, orders, outputs, calibration):
    """Put the projected SCC layer in the place of `layer` in the model, whose channels are in order already."""
    old, windows = layer.module, layer.windows
    new = nn.SCC(
        old.in_channels, old.out_channels, layer.groups, layer.overlap, bias=old.bias is not None, stride=old.stride
    ).to("cpu")
    weight, bias = old.weight.array[:, :, 0, 0], None if old.bias is None else old.bias.array
    error = None
    if calibration is None:
        taps = project(weight, windows)
    else:
        images = np.ascontiguousarray(calibration, np.float32)
        x = _observed(model, images, [layer.name])[0][layer.name][:, :, :: old.stride[0], :: old.stride[1]]
        y = outputs[layer.name]
        if layer.writes in orders:
            y = y[:, orders[layer.writes]]
        x, y = _pixels(x), _pixels(y)
        mean_x, mean_y = x.mean(1), y.mean(1)
        x, y = x - mean_x[:, None], y - mean_y[:, None]
        taps = project(weight, windows, x @ x.T / x.shape[1], x @ y.T / x.shape[1])
        dense = windows.scatter(taps.astype(np.float64))
        lost = y - dense @ x
        if bias is not None:
            bias = mean_y - dense @ mean_x
        error = float(np.sqrt(np.square(lost).mean() / max(np.square(y).mean(), np.finfo(np.float64).tiny)))
    new.weight.data[...] = taps
    new.weight.changed()
    if bias is not None:
        new.bias.data[...] = bias
        new.bias.changed()
    parent, _, attribute = layer.name.rpartition(".")
    setattr(dict(model.named_modules())[parent], attribute, new)
    return LayerLoss(layer.name, 1 - layer.kept(orders), 1 - layer.kept({}), error)
