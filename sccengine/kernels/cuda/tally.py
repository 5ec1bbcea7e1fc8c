"""What a training step is judged by, kept per step: its loss, and how many of its images were classified rightly.

    record = [n, loss_0, right_0, loss_1, right_1, ...]        n steps so far; appending fills in pair n

The host reads the record now and then, so a step never waits for it. An image is right where the first of its largest
logits is its label's; NaN counts as larger than all, as in NumPy's argmax.

One block: thread t takes the images t, t + THREADS, ..., and walks down their logits; neighbouring threads read
neighbouring numbers. It reads O * N numbers once, a thousandth of what the smallest network moves.
"""

from __future__ import annotations

from numba import cuda

from sccengine.kernels.cuda import launch
from sccengine.kernels.cuda.reduction import THREADS, block_sum


@cuda.jit
def append_v1(
    logits,  # (O, N)
    labels,  # (N,), int64
    loss,  # (1,)
    record,  # (1 + 2 * steps,), float64
    O,
    N,
):
    partial = cuda.shared.array(THREADS, record.dtype)
    right = record.dtype.type(0)
    for n in range(cuda.threadIdx.x, N, THREADS):
        best, winner = logits[n], 0
        for o in range(1, O):
            value = logits[o * N + n]
            if value > best or (value != value and best == best):
                best, winner = value, o
        if winner == labels[n]:
            right += record.dtype.type(1)
    right = block_sum(partial, right)
    if cuda.threadIdx.x == 0:
        step = int(record[0])
        record[1 + 2 * step] = loss[0]
        record[2 + 2 * step] = right
        record[0] = record.dtype.type(step + 1)


def append(logits, labels, loss, record):
    """Adds one step to `record`; all arrays are on the same device."""
    launch.blocks(append_v1, 1, THREADS, logits, labels, loss, record, *logits.shape)


COMPILE = [
    launch.Build(append_v1, "FLFDii"),
]
