"""Max pooling, one window an output pixel; padding never wins.

    y[c, i, j, n] = max over the window;   indices = h * W + w of the winner: the first of equals, NaN before all else
    dx[c, h, w, n] = sum of dy[c, i, j, n] over the windows that hold (h, w) and were won by it

The batch is the vector, and backward gathers: each input pixel looks at the windows that cover it. Where the batch
fills no vector, a row of the image is one: the best of each column of a window, for all columns at once, then the best
of those. Backward hands each dy to its winner there: the same sums in the same order, but that -0 may be 0.
"""

import numpy as np
from numba import prange

from sccengine.kernels.cpu.compile import PARALLEL_WORK, jit, parallel_jit
from sccengine.kernels.cpu.shares import share_count, share_of
from sccengine.kernels.cpu.simd import is_short_batch


@jit
def _wins(value, held):
    """Whether a later number takes the place of the one held: if it is greater, or the first NaN."""
    return (not (value <= held)) & (held == held)


@jit
def _better(value, pixel, held, winner):
    """The pair that wins."""
    wins = _wins(value, held)
    return (value if wins else held), (pixel if wins else winner)


@jit
def _start(
    row,  # (N,) of one pixel,
    pixel,
    other_row,  # (N,) and of a later one, or the same
    other,
    best,  # (N,), written
    winner,  # (N,) int32, written
):
    for n in range(best.size):
        best[n], winner[n] = _better(other_row[n], other, row[n], pixel)


@jit
def _challenge(
    row,  # (N,)
    pixel,
    best,  # (N,), in and out
    winner,  # (N,) int32, in and out
):
    for n in range(best.size):
        best[n], winner[n] = _better(row[n], pixel, best[n], winner[n])


@jit
def _collect(
    dy,  # (N,)
    winner,  # (N,) int32
    pixel,
    adds,  # to what stands in dx
    dx,  # (N,), written
):
    zero = dx.dtype.type(0)
    if adds:
        for n in range(dx.size):
            dx[n] += dy[n] if winner[n] == pixel else zero
    else:
        for n in range(dx.size):
            dx[n] = dy[n] if winner[n] == pixel else zero


@jit
def _window(place, stride, padding, kernel, size):
    """[begin, end) of the pixels that output ``place`` looks at, along one axis."""
    begin = place * stride - padding
    return max(begin, 0), min(begin + kernel, size)


@jit
def _pool(
    x,  # (H, W, N)
    y,  # (HO, WO, N)
    indices,  # (HO, WO, N) int32
    kernel,
    stride,
    padding,
):
    height, width, _ = x.shape
    for i in range(y.shape[0]):
        top, bottom = _window(i, stride[0], padding[0], kernel[0], height)
        for j in range(y.shape[1]):
            left, right = _window(j, stride[1], padding[1], kernel[1], width)
            second = min(left + 1, right - 1)
            best, winner = y[i, j], indices[i, j]
            first = np.int32(top * width + left)
            _start(x[top, left], first, x[top, second], np.int32(top * width + second), best, winner)
            for h in range(top, bottom):
                for w in range(left if h > top else second + 1, right):
                    _challenge(x[h, w], np.int32(h * width + w), best, winner)


@jit
def _unpool(
    dy,  # (HO, WO, N)
    indices,  # (HO, WO, N) int32
    dx,  # (H, W, N)
    kernel,
    stride,
    padding,
):
    width = dx.shape[1]
    for h in range(dx.shape[0]):
        top = max(0, (h + padding[0] - kernel[0]) // stride[0] + 1)
        bottom = min(dy.shape[0], (h + padding[0]) // stride[0] + 1)
        for w in range(width):
            left = max(0, (w + padding[1] - kernel[1]) // stride[1] + 1)
            right = min(dy.shape[1], (w + padding[1]) // stride[1] + 1)
            if top >= bottom or left >= right:
                dx[h, w] = 0
            for i in range(top, bottom):
                for j in range(left, right):
                    _collect(dy[i, j], indices[i, j], np.int32(h * width + w), i > top or j > left, dx[h, w])


@jit
def _best_of_columns(
    column,  # (N,) the best of one column,
    rows,  # (N,) int32, where their rows begin,
    w,  # and which it is;
    other_column,  # (N,) the same of another
    other_rows,
    other_w,
    best,  # (N,), written
    winner,  # (N,) int32, written
):
    for n in range(best.size):
        held, value = column[n], other_column[n]
        pixel, other = rows[n] + w, other_rows[n] + other_w
        equal = (value == held) | ((value != value) & (held != held))
        wins = _wins(value, held) | (equal & (other < pixel))
        best[n], winner[n] = (value if wins else held), (other if wins else pixel)


@jit
def _pool_short(
    begin,  # channels from begin
    end,
    x,  # (C, H, W, N)
    y,  # (C, HO, WO, N), written
    indices,  # (C, HO, WO, N) int32, written
    kernel,
    stride,
    padding,
):
    channels, height, width, batch = x.shape
    rows = x.reshape(channels * height, width * batch)
    row_best, row_winner = np.empty(width * batch, x.dtype), np.empty(width * batch, np.int32)
    best, winner = row_best.reshape(width, batch), row_winner.reshape(width, batch)
    for c in range(begin, end):
        image = c * height
        for i in range(y.shape[1]):
            top, bottom = _window(i, stride[0], padding[0], kernel[0], height)
            below = min(top + 1, bottom - 1)
            one, two = (rows[image + top], np.int32(top * width)), (rows[image + below], np.int32(below * width))
            _start(*one, *two, row_best, row_winner)
            for h in range(top + 2, bottom):
                _challenge(rows[image + h], np.int32(h * width), row_best, row_winner)
            for j in range(y.shape[2]):
                left, right = _window(j, stride[1], padding[1], kernel[1], width)
                beside = min(left + 1, right - 1)
                one, two = (best[left], winner[left], np.int32(left)), (best[beside], winner[beside], np.int32(beside))
                written = y[c, i, j], indices[c, i, j]
                _best_of_columns(*one, *two, *written)
                for w in range(left + 2, right):
                    _best_of_columns(*written, np.int32(0), best[w], winner[w], np.int32(w), *written)


@jit
def _unpool_short(
    dy,  # (HO, WO, N)
    indices,  # (HO, WO, N) int32
    dx,  # (H, W, N)
):
    dx[:] = 0
    width = dx.shape[1]
    for i in range(dy.shape[0]):
        for j in range(dy.shape[1]):
            for n in range(dy.shape[2]):
                winner = indices[i, j, n]
                dx[winner // width, winner % width, n] += dy[i, j, n]


@parallel_jit
def _forward(
    shares,  # of the channels, one a thread
    is_short,  # the batch
    x,  # (C, H, W, N)
    y,  # (C, HO, WO, N)
    indices,  # (C, HO, WO, N) int32
    kernel,
    stride,
    padding,
):
    for index in prange(shares):
        begin, end = share_of(np.int64(index), shares, 1, len(x))
        if is_short:
            _pool_short(begin, end, x, y, indices, kernel, stride, padding)
        else:
            for c in range(begin, end):
                _pool(x[c], y[c], indices[c], kernel, stride, padding)


@parallel_jit
def _backward(
    is_short,  # the batch
    dy,  # (C, HO, WO, N)
    indices,  # (C, HO, WO, N) int32
    dx,  # (C, H, W, N)
    kernel,
    stride,
    padding,
):
    for c in prange(dx.shape[0]):
        if is_short:
            _unpool_short(dy[c], indices[c], dx[c])
        else:
            _unpool(dy[c], indices[c], dx[c], kernel, stride, padding)


def forward(
    x,  # (C, H, W, N)
    y,  # (C, HO, WO, N), written
    indices,  # (C, HO, WO, N) int32, written
    kernel,  # (h, w)
    stride,  # (h, w)
    padding,  # (h, w), at most half the kernel
):
    parallel = 2 * x.size >= PARALLEL_WORK
    _forward(share_count(parallel), is_short_batch(x), x, y, indices, kernel, stride, padding, parallel=parallel)


def backward(
    dy,  # (C, HO, WO, N)
    indices,  # (C, HO, WO, N) int32
    dx,  # (C, H, W, N), written
    kernel,  # (h, w)
    stride,  # (h, w)
    padding,  # (h, w)
):
    _backward(is_short_batch(dx), dy, indices, dx, kernel, stride, padding, parallel=2 * dx.size >= PARALLEL_WORK)
