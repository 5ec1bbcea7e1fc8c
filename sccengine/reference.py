"""Float64 NumPy oracles: one forward and one backward per operator, written as plain loops.

Everything here is meant to be read and believed, not to be fast. Arrays are ordinary ``(N, C, H, W)``
or ``(N, C)`` arrays of any dtype and any strides; they are converted to float64 and never changed. Loops run
over filters, channels, taps and pixels; NumPy broadcasts over the remaining axes only.

The module imports nothing of the package. The channel windows are derived here a second time, by their own
loop, so that a mistake in ``windows.py`` cannot hide in both places. Each backward is the derivative written
out by hand, and ``tests/test_reference.py`` compares all of them with finite differences and with PyTorch.

A convolution's ``stride``, ``padding`` and a pooling ``kernel`` are an int or a pair ``(h, w)``.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np


def _float64(*arrays):
    converted = tuple(None if a is None else np.array(a, dtype=np.float64, subok=False) for a in arrays)
    return converted[0] if len(converted) == 1 else converted


def _pair(value):
    return (value, value) if isinstance(value, (int, np.integer)) else tuple(value)


def _pad(x, padding, fill=0.0):
    ph, pw = padding
    return np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)), constant_values=fill)


def _crop(x, padding):
    ph, pw = padding
    return x[:, :, ph : x.shape[2] - ph, pw : x.shape[3] - pw]


def _output_size(size, kernel, stride, padding):
    return (size + 2 * padding - kernel) // stride + 1


def _tap(x, i, j, output, stride):
    """View (N, C, HO, WO) of a padded image: the pixel that tap (i, j) reads for each output pixel."""
    return x[:, :, i : i + output[0] * stride[0] : stride[0], j : j + output[1] * stride[1] : stride[1]]


# Sliding-channel convolution


def scc_windows(in_channels, out_channels, groups, overlap):
    """Window width K and the list of each filter's first channel.

    ``overlap`` (a float, a str such as "0.29" or "1/3", or a Fraction) means the decimal number its user
    wrote, ``Fraction(str(overlap))``, not the nearest binary fraction: with K = 100 an overlap of 0.29 is 29
    channels.
    """
    width = in_channels // groups
    shift = width - math.floor(Fraction(str(overlap)) * width)
    starts = []
    start = 0
    for _ in range(out_channels):
        starts.append(start)
        start += shift
        while start >= in_channels:
            start -= in_channels
    return width, starts


def scc_forward(x, weight, bias, groups, overlap, stride=1):
    """y[n, f, h, w] = bias[f] + sum_k weight[f, k] * x[n, (start[f] + k) mod C, h * stride, w * stride].

    x (N, C, H, W), weight (O, K), bias (O,) or None; y (N, O, HO, WO). x may be (N, C) where the stride is 1.
    """
    x, weight, bias = _float64(x, weight, bias)
    x = _strided(x, stride)
    channels, filters = x.shape[1], weight.shape[0]
    width, starts = scc_windows(channels, filters, groups, overlap)
    y = np.zeros((x.shape[0], filters, *x.shape[2:]))
    for f in range(filters):
        for k in range(width):
            y[:, f] += weight[f, k] * x[:, (starts[f] + k) % channels]
        if bias is not None:
            y[:, f] += bias[f]
    return y


def scc_backward(dy, x, weight, groups, overlap, stride=1):
    """dx (x's shape), dweight (O, K), dbias (O,) of ``scc_forward``."""
    dy, x, weight = _float64(dy, x, weight)
    read = _strided(x, stride)
    channels, filters = x.shape[1], weight.shape[0]
    width, starts = scc_windows(channels, filters, groups, overlap)
    dx, dweight, dbias = np.zeros_like(x), np.zeros_like(weight), np.zeros(filters)
    dread = _strided(dx, stride)
    for f in range(filters):
        for k in range(width):
            c = (starts[f] + k) % channels
            dread[:, c] += weight[f, k] * dy[:, f]
            dweight[f, k] = np.sum(dy[:, f] * read[:, c])
        dbias[f] = np.sum(dy[:, f])
    return dx, dweight, dbias


def _strided(x, stride):
    """View of the pixels that a 1x1 kernel with this stride reads."""
    sh, sw = _pair(stride)
    return x if (sh, sw) == (1, 1) else x[:, :, ::sh, ::sw]


# Spatial convolution (depthwise: groups == C) and the linear layer


def conv2d_forward(x, weight, bias, stride=1, padding=0, groups=1):
    """Cross-correlation, zero padding; x (N, C, H, W), weight (O, C/groups, kh, kw), bias (O,) or None."""
    x, weight, bias = _float64(x, weight, bias)
    stride, padding = _pair(stride), _pair(padding)
    filters, depth, kh, kw = weight.shape
    output = tuple(_output_size(*z) for z in zip(x.shape[2:], (kh, kw), stride, padding))
    x = _pad(x, padding)
    y = np.zeros((x.shape[0], filters, *output))
    for f in range(filters):
        first = f // (filters // groups) * depth
        for d in range(depth):
            for i in range(kh):
                for j in range(kw):
                    y[:, f] += weight[f, d, i, j] * _tap(x, i, j, output, stride)[:, first + d]
        if bias is not None:
            y[:, f] += bias[f]
    return y


def conv2d_backward(dy, x, weight, stride=1, padding=0, groups=1):
    """dx (x's shape), dweight (weight's shape), dbias (O,) of ``conv2d_forward``."""
    dy, x, weight = _float64(dy, x, weight)
    stride, padding = _pair(stride), _pair(padding)
    filters, depth, kh, kw = weight.shape
    output = dy.shape[2:]
    x = _pad(x, padding)
    dx, dweight, dbias = np.zeros_like(x), np.zeros_like(weight), np.zeros(filters)
    for f in range(filters):
        first = f // (filters // groups) * depth
        for d in range(depth):
            for i in range(kh):
                for j in range(kw):
                    _tap(dx, i, j, output, stride)[:, first + d] += weight[f, d, i, j] * dy[:, f]
                    dweight[f, d, i, j] = np.sum(dy[:, f] * _tap(x, i, j, output, stride)[:, first + d])
        dbias[f] = np.sum(dy[:, f])
    return _crop(dx, padding), dweight, dbias


def linear_forward(x, weight, bias):
    """y[n, o] = bias[o] + sum_i weight[o, i] * x[n, i]. x (N, I), weight (O, I), bias (O,) or None."""
    x, weight, bias = _float64(x, weight, bias)
    y = np.zeros((x.shape[0], weight.shape[0]))
    for o in range(weight.shape[0]):
        y[:, o] = np.sum(weight[o] * x, axis=1)
        if bias is not None:
            y[:, o] += bias[o]
    return y


def linear_backward(dy, x, weight):
    """dx (N, I), dweight (O, I), dbias (O,) of ``linear_forward``."""
    dy, x, weight = _float64(dy, x, weight)
    dx, dweight, dbias = np.zeros_like(x), np.zeros_like(weight), np.zeros(weight.shape[0])
    for o in range(weight.shape[0]):
        dx += dy[:, o, None] * weight[o]
        dweight[o] = np.sum(dy[:, o, None] * x, axis=0)
        dbias[o] = np.sum(dy[:, o])
    return dx, dweight, dbias


# Batch normalisation


def batch_norm_training_forward(x, weight, bias, eps=1e-5):
    """y, mean (C,) and the biased variance (C,) of the batch; x (N, C, ...)."""
    x = _float64(x)
    mean, var = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for c in range(x.shape[1]):
        mean[c] = np.sum(x[:, c]) / x[:, c].size
        var[c] = np.sum((x[:, c] - mean[c]) ** 2) / x[:, c].size
    return batch_norm_inference_forward(x, weight, bias, mean, var, eps), mean, var


def batch_norm_training_backward(dy, x, weight, eps=1e-5):
    """dx, dweight (C,), dbias (C,): the batch statistics depend on x too."""
    dy, x, weight = _float64(dy, x, weight)
    dx, dweight, dbias = np.zeros_like(x), np.zeros_like(weight), np.zeros_like(weight)
    for c in range(x.shape[1]):
        count = x[:, c].size
        centred = x[:, c] - np.sum(x[:, c]) / count
        inverse = 1.0 / math.sqrt(np.sum(centred**2) / count + eps)
        normalised = centred * inverse
        dweight[c] = np.sum(dy[:, c] * normalised)
        dbias[c] = np.sum(dy[:, c])
        dx[:, c] = weight[c] * inverse * (dy[:, c] - dbias[c] / count - normalised * dweight[c] / count)
    return dx, dweight, dbias


def batch_norm_inference_forward(x, weight, bias, mean, var, eps=1e-5):
    """y = (x - mean) / sqrt(var + eps) * weight + bias per channel, with given statistics (C,)."""
    x, weight, bias, mean, var = _float64(x, weight, bias, mean, var)
    y = np.zeros_like(x)
    for c in range(x.shape[1]):
        y[:, c] = (x[:, c] - mean[c]) / math.sqrt(var[c] + eps) * weight[c] + bias[c]
    return y


def batch_norm_inference_backward(dy, x, weight, mean, var, eps=1e-5):
    """dx, dweight (C,), dbias (C,) where the statistics are constants."""
    dy, x, weight, mean, var = _float64(dy, x, weight, mean, var)
    dx, dweight, dbias = np.zeros_like(x), np.zeros_like(weight), np.zeros_like(weight)
    for c in range(x.shape[1]):
        inverse = 1.0 / math.sqrt(var[c] + eps)
        dx[:, c] = dy[:, c] * weight[c] * inverse
        dweight[c] = np.sum(dy[:, c] * (x[:, c] - mean[c]) * inverse)
        dbias[c] = np.sum(dy[:, c])
    return dx, dweight, dbias


# Activations, pooling, and the operators that only move or add numbers


def relu_forward(x, ceiling=math.inf):
    """min(max(x, 0), ceiling); NaN stays NaN."""
    return np.minimum(np.maximum(_float64(x), 0.0), ceiling)


def relu_backward(dy, x, ceiling=math.inf):
    """dx = 0 where x <= 0 or x >= ceiling < inf, else dy: it passes a NaN, and ReLU's an infinity."""
    dy, x = _float64(dy, x)
    return np.where((x <= 0.0) | ((x >= ceiling) & (ceiling < np.inf)), 0.0, dy)


def max_pool2d_forward(x, kernel, stride=None, padding=0):
    """y (N, C, HO, WO) and indices of y's shape: h * W + w of the winner, the first of equals; a NaN wins."""
    x = _float64(x)
    kernel, stride, padding = _pair(kernel), _pair(kernel if stride is None else stride), _pair(padding)
    samples, channels, height, width = x.shape
    output = tuple(_output_size(*z) for z in zip((height, width), kernel, stride, padding))
    y = np.full((samples, channels, *output), -np.inf)
    indices = np.zeros(y.shape, dtype=np.int64)
    for a in range(output[0]):
        for b in range(output[1]):
            undecided = True
            for h in range(a * stride[0] - padding[0], a * stride[0] - padding[0] + kernel[0]):
                for w in range(b * stride[1] - padding[1], b * stride[1] - padding[1] + kernel[1]):
                    if not (0 <= h < height and 0 <= w < width):
                        continue
                    value = x[:, :, h, w]
                    wins = undecided | (value > y[:, :, a, b]) | np.isnan(value)
                    y[:, :, a, b] = np.where(wins, value, y[:, :, a, b])
                    indices[:, :, a, b] = np.where(wins, h * width + w, indices[:, :, a, b])
                    undecided = False
    return y, indices


def max_pool2d_backward(dy, x, kernel, stride=None, padding=0):
    """dx: each output's gradient goes to its winner."""
    dy, x = _float64(dy, x)
    _, indices = max_pool2d_forward(x, kernel, stride, padding)
    dx = np.zeros_like(x)
    for n, c, a, b in np.ndindex(*dy.shape):
        h, w = divmod(int(indices[n, c, a, b]), x.shape[3])
        dx[n, c, h, w] += dy[n, c, a, b]
    return dx


def avg_pool2d_forward(x, kernel, stride=None, padding=0):
    """Mean over each window; padding counts as zeros in it."""
    x = _float64(x)
    kernel, stride, padding = _pair(kernel), _pair(kernel if stride is None else stride), _pair(padding)
    output = tuple(_output_size(*z) for z in zip(x.shape[2:], kernel, stride, padding))
    x = _pad(x, padding)
    y = np.zeros((*x.shape[:2], *output))
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            y += _tap(x, i, j, output, stride) / (kernel[0] * kernel[1])
    return y


def avg_pool2d_backward(dy, shape, kernel, stride=None, padding=0):
    """dx of the given input shape (N, C, H, W)."""
    dy = _float64(dy)
    kernel, stride, padding = _pair(kernel), _pair(kernel if stride is None else stride), _pair(padding)
    dx = _pad(np.zeros(shape), padding)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            _tap(dx, i, j, dy.shape[2:], stride)[...] += dy / (kernel[0] * kernel[1])
    return _crop(dx, padding)


def global_avg_pool2d_forward(x):
    """y (N, C): the mean of each (H, W) image of x (N, C, H, W)."""
    x = _float64(x)
    return np.sum(x, axis=(2, 3)) / (x.shape[2] * x.shape[3])


def global_avg_pool2d_backward(dy, shape):
    """dx of the given input shape (N, C, H, W) from dy (N, C)."""
    dx = np.zeros(shape)
    dx += _float64(dy)[:, :, None, None] / (shape[2] * shape[3])
    return dx


def channel_shuffle_forward(x, groups):
    """Channel c = g * (C / groups) + i moves to i * groups + g."""
    x = _float64(x)
    per_group = x.shape[1] // groups
    y = np.zeros_like(x)
    for g in range(groups):
        for i in range(per_group):
            y[:, i * groups + g] = x[:, g * per_group + i]
    return y


def channel_shuffle_backward(dy, groups):
    """The inverse permutation of ``channel_shuffle_forward``."""
    dy = _float64(dy)
    per_group = dy.shape[1] // groups
    dx = np.zeros_like(dy)
    for g in range(groups):
        for i in range(per_group):
            dx[:, g * per_group + i] = dy[:, i * groups + g]
    return dx


def dropout_mask(shape, probability, key):
    """Boolean mask of what is kept, for an (N, C, ...) shape.

    Element i, counted in batch-last order (C, ..., N), is kept where u(i) >= probability, with u(i) the top
    24 bits of splitmix64's finaliser of key + (i + 1) * 0x9E3779B97F4A7C15, over 2**24 (Steele, Lea and Flood,
    OOPSLA 2014).
    """
    kept = np.zeros((*shape[1:], shape[0]), dtype=bool)
    flat = kept.reshape(-1)
    for i in range(flat.size):
        z = (int(key) + (i + 1) * 0x9E3779B97F4A7C15) % 2**64
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        z = z ^ (z >> 31)
        flat[i] = (z >> 40) / 2**24 >= probability
    return np.moveaxis(kept, -1, 0)


def dropout_forward(x, probability, key):
    """x / (1 - probability) where the mask of ``key`` keeps it, else 0."""
    x = _float64(x)
    return np.where(dropout_mask(x.shape, probability, key), x / (1.0 - probability), 0.0)


def dropout_backward(dy, probability, key):
    """The same mask and factor applied to dy."""
    return dropout_forward(dy, probability, key)


def scale_forward(x, factor):
    """factor * x."""
    return factor * _float64(x)


def scale_backward(dy, factor):
    """dx."""
    return factor * _float64(dy)


def add_forward(a, b):
    """a + b, of one shape."""
    a, b = _float64(a, b)
    return a + b


def add_backward(dy):
    """(da, db): dy twice."""
    return _float64(dy, dy)


def flatten_forward(x):
    """(N, C, H, W) -> (N, C*H*W), channels slowest."""
    x = _float64(x)
    return x.reshape(x.shape[0], -1)


def flatten_backward(dy, shape):
    """dy (N, C*H*W) in the given input shape."""
    return _float64(dy).reshape(shape)


# Loss


def cross_entropy_forward(logits, labels, label_smoothing=0.0):
    """Mean over the batch of -sum_o target[n, o] * log softmax(logits[n])[o].

    logits (N, O), labels (N,) of ints; target = (1 - label_smoothing) * onehot(label) + label_smoothing / O.
    """
    logits = _float64(logits)
    total = 0.0
    for n in range(logits.shape[0]):
        highest = np.max(logits[n])
        log_probability = logits[n] - highest - math.log(np.sum(np.exp(logits[n] - highest)))
        total -= np.sum(_target(labels[n], logits.shape[1], label_smoothing) * log_probability)
    return total / logits.shape[0]


def cross_entropy_backward(logits, labels, label_smoothing=0.0):
    """dlogits (N, O) of the mean loss: (softmax - target) / N."""
    logits = _float64(logits)
    dlogits = np.zeros_like(logits)
    for n in range(logits.shape[0]):
        exponentials = np.exp(logits[n] - np.max(logits[n]))
        target = _target(labels[n], logits.shape[1], label_smoothing)
        dlogits[n] = (exponentials / np.sum(exponentials) - target) / logits.shape[0]
    return dlogits


def _target(label, classes, label_smoothing):
    target = np.full(classes, label_smoothing / classes)
    target[int(label)] += 1.0 - label_smoothing
    return target


# Optimiser steps: new arrays, inputs unchanged


def sgd_update(parameter, gradient, buffer, lr, momentum=0.0, weight_decay=0.0, nesterov=False):
    """(parameter, buffer) after a step by PyTorch's rule; ``buffer`` None before the first step.

    gradient += weight_decay * parameter; buffer = momentum * buffer + gradient (the first: gradient); the
    step goes along buffer, with nesterov along gradient + momentum * buffer.
    """
    parameter, gradient, buffer = _float64(parameter, gradient, buffer)
    gradient = gradient + weight_decay * parameter
    if momentum == 0.0:
        return parameter - lr * gradient, buffer
    buffer = gradient.copy() if buffer is None else momentum * buffer + gradient
    direction = gradient + momentum * buffer if nesterov else buffer
    return parameter - lr * direction, buffer


def adamw_update(
    parameter,
    gradient,
    first_moment,
    second_moment,
    step,
    lr,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    weight_decay=0.01,
):
    """(parameter, first_moment, second_moment) after step number ``step`` (1 is the first); decoupled decay.

    Loshchilov and Hutter, "Decoupled weight decay regularization", with eps outside the root as in PyTorch.
    """
    parameter, gradient, first, second = _float64(parameter, gradient, first_moment, second_moment)
    first = beta1 * first + (1.0 - beta1) * gradient
    second = beta2 * second + (1.0 - beta2) * gradient**2
    unbiased_first = first / (1.0 - beta1**step)
    unbiased_second = second / (1.0 - beta2**step)
    parameter = parameter * (1.0 - lr * weight_decay) - lr * unbiased_first / (np.sqrt(unbiased_second) + eps)
    return parameter, first, second


def clip_grad_norm(gradients, max_norm):
    """(gradients, norm): all gradients times min(1, max_norm / (norm + 1e-6)); norm is of all together."""
    gradients = [_float64(g) for g in gradients]
    norm = math.sqrt(sum(float(np.sum(g**2)) for g in gradients))
    factor = min(1.0, max_norm / (norm + 1e-6))
    return [g * factor for g in gradients], norm
