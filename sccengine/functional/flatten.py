"""(N, C, H, W) -> (N, C*H*W), channels slowest, as PyTorch's flatten(1). In batch-last memory it moves nothing."""

from __future__ import annotations

from sccengine.autograd import Function
from sccengine.backend import from_rows, rows
from sccengine.functional import checks


class FlattenFunction(Function):
    is_view = True

    def forward(self, x):
        checks.batched("flatten", x)
        x = rows(x)
        self.rows_shape = x.shape
        return from_rows(x.reshape(-1, x.shape[-1]))

    def backward(self, dy):
        return (from_rows(rows(dy).reshape(self.rows_shape)),)


def flatten(x):
    """Everything but the batch in one axis. x: (N, C, ...) -> (N, C*...). Raises ValueError for another rank."""
    return FlattenFunction()(x)
