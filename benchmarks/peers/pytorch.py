"""PyTorch's ways to write a sliding-channel convolution.

An expression gets x, the band weight (O, K) and the bias (O,), and computes y. Autograd gives dx, dweight (band entries
only: the gradient of a scatter is a gather) and dbias. Each is written for the memory order it likes best, and is
handed x in that order, so no time goes into conversions:

banded conv          the weight scattered into a dense (O, C) matrix, then a 1x1 convolution; NCHW and channels_last
banded matmul        the same dense matrix as a batched product (NCHW), as a linear layer on channels_last, and as
                     one product on batch-last memory
channel-stack        each filter's window gathered, then an einsum, or a convolution with O groups
cyclic grouped       only the D distinct windows gathered, then a convolution with D groups (filters sorted by window)
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from sccengine.bench.case import Candidate

# The engine computes in full float32; so do its peers.
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
torch.backends.cudnn.benchmark = True


def tensor(array, device):
    """A torch tensor with its own memory, on "cpu" or "cuda"."""
    return torch.from_numpy(np.array(array, order="C")).to(device)


def numpy(value):
    """A NumPy array of a torch tensor."""
    return value.detach().cpu().numpy()


# Sliding-channel convolution


class Banded:
    """Dense (O, C) weight with the band scattered into it."""

    def __init__(self, channels, in_channels, device):
        self.index = tensor(channels.astype(np.int64), device)
        self.in_channels = in_channels

    def dense(self, weight):
        return weight.new_zeros(weight.shape[0], self.in_channels).scatter(1, self.index, weight)


class BandedConv(Banded):
    def __call__(self, x, weight, bias):
        return F.conv2d(x, self.dense(weight)[:, :, None, None], bias)


class BandedMatmul(Banded):
    def __call__(self, x, weight, bias):
        y = torch.matmul(self.dense(weight), x.flatten(2)) + bias[:, None]
        return y.unflatten(2, x.shape[2:])


class BandedLinear(Banded):
    def __call__(self, x, weight, bias):
        return F.linear(x.permute(0, 2, 3, 1), self.dense(weight), bias).permute(0, 3, 1, 2)


class BandedBatchLast(Banded):
    def __call__(self, x, weight, bias):
        rows = x.permute(1, 2, 3, 0)
        y = torch.addmm(bias[:, None], self.dense(weight), rows.reshape(rows.shape[0], -1))
        return y.view(-1, *rows.shape[1:]).permute(3, 0, 1, 2)


class ChannelStackEinsum:
    def __init__(self, channels, in_channels, device):
        self.shape = channels.shape
        self.index = tensor(channels.astype(np.int64).reshape(-1), device)

    def __call__(self, x, weight, bias):
        stack = x.index_select(1, self.index).unflatten(1, self.shape)
        return torch.einsum("nokhw,ok->nohw", stack, weight) + bias[:, None, None]


class ChannelStackGrouped(ChannelStackEinsum):
    def __call__(self, x, weight, bias):
        stack = x.index_select(1, self.index)
        return F.conv2d(stack, weight[:, :, None, None], bias, groups=weight.shape[0])


class CyclicGrouped:
    def __init__(self, channels, in_channels, device):
        windows, window_of = np.unique(channels[:, 0], return_inverse=True)
        first = [int(np.flatnonzero(window_of == w)[0]) for w in range(len(windows))]
        self.groups = len(windows)
        self.index = tensor(channels[first].astype(np.int64).reshape(-1), device)
        size = int(np.bincount(window_of).max())
        # Row of each filter among groups of equal size; rows that no filter takes read a weight of zeros.
        rank = np.array([np.count_nonzero(window_of[:f] == w) for f, w in enumerate(window_of)])
        position = window_of * size + rank
        filters = np.full(self.groups * size, len(window_of))
        filters[position] = np.arange(len(window_of))
        self.position, self.filters = tensor(position, device), tensor(filters, device)

    def __call__(self, x, weight, bias):
        padded = F.pad(weight, (0, 0, 0, 1)).index_select(0, self.filters)
        stack = x.index_select(1, self.index)
        y = F.conv2d(stack, padded[:, :, None, None], groups=self.groups)
        return y.index_select(1, self.position) + bias[:, None, None]


def _batch_last(x):
    return x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)


def _channels_last(x):
    return x.contiguous(memory_format=torch.channels_last)


SCC_EXPRESSIONS = {
    "banded conv NCHW": (BandedConv, torch.Tensor.contiguous),
    "banded conv channels_last": (BandedConv, _channels_last),
    "banded matmul NCHW": (BandedMatmul, torch.Tensor.contiguous),
    "banded linear channels_last": (BandedLinear, _channels_last),
    "banded matmul batch-last": (BandedBatchLast, _batch_last),
    "channel-stack einsum": (ChannelStackEinsum, torch.Tensor.contiguous),
    "channel-stack grouped conv": (ChannelStackGrouped, torch.Tensor.contiguous),
    "cyclic grouped conv": (CyclicGrouped, torch.Tensor.contiguous),
}


def prepare_scc(name, inputs, channels, backward, device):
    """run() of one expression: {"y"} without gradients, or {"y", "dx", "dweight", "dbias"}.

    ``inputs`` has x, weight, bias, dy as NumPy arrays; ``channels`` (O, K) says which channel each tap reads.
    """
    expression_class, arrange = SCC_EXPRESSIONS[name]
    return prepare(expression_class(channels, inputs["x"].shape[1], device), arrange, inputs, backward, device)


def prepare(expression, arrange, inputs, backward, device):
    """run() of expression(x, weight, bias), with x and dy as ``arrange`` lays them out."""
    x, dy = (arrange(tensor(inputs[key], device)) for key in ("x", "dy"))
    leaves = [x, tensor(inputs["weight"], device), tensor(inputs["bias"], device)]
    return through_autograd(expression, leaves, dy, backward)


def through_autograd(expression, leaves, dy, backward):
    """run() of expression(*leaves), x, weight and bias."""
    if not backward:

        def forward():
            with torch.no_grad():
                return {"y": expression(*leaves)}

        return forward
    for leaf in leaves:
        leaf.requires_grad_()

    def forward_backward():
        y = expression(*leaves)
        dx, dweight, dbias = torch.autograd.grad(y, leaves, dy)
        return {"y": y, "dx": dx, "dweight": dweight, "dbias": dbias}

    return forward_backward


def operator_candidates(name, call, axes, device):
    """Candidates of one operator, call (x, weight, bias) -> y, in PyTorch's two memory formats."""
    backward = axes["pass"] == "both"
    return [
        Candidate(
            f"torch {name} {layout}",
            "pytorch",
            lambda inputs, arrange=arrange: prepare(call, arrange, inputs, backward, device),
            read,
        )
        for layout, arrange in (("NCHW", torch.Tensor.contiguous), ("channels_last", _channels_last))
    ]


def read(outputs):
    """Arrays of what run() returned, NumPy's or CuPy's."""
    return {name: _array(value) for name, value in outputs.items()}


def _array(value):
    if not value.is_cuda:
        return numpy(value)
    import cupy

    return cupy.from_dlpack(value.detach())


# Layers that the networks of models.py are made of, beside torch's own


class NormReLU(torch.nn.BatchNorm2d):
    """Batch norm, then ReLU in place."""

    def forward(self, x):
        return F.relu(super().forward(x), inplace=True)


class SCC(torch.nn.Module):
    """A sliding-channel layer by one of SCC_EXPRESSIONS; ``channels`` (O, K)."""

    def __init__(self, channels, in_channels, expression, device):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(channels.shape))
        self.bias = torch.nn.Parameter(torch.empty(channels.shape[0]))
        self.expression = SCC_EXPRESSIONS[expression][0](channels, in_channels, device)

    def forward(self, x):
        return self.expression(x, self.weight, self.bias)
