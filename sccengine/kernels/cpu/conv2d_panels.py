"""Packing for the k x k convolution: what each tap reads, row by row, and weights in the order of those rows.

A convolution, or one phase of an input gradient, is a sum over source planes s and taps t,

    y[r, i, j, n] = sum_(s, t) W[r, s, t] * source[s, i * sh + dh[t], j * sw + dw[t], n]       0 outside the image

so one panel row is a plane under one tap: for columns (i, j, n) of y, runs of source rows, shifted by whole pixels.
"""

import numpy as np

from sccengine.kernels.cpu.compile import jit
from sccengine.kernels.cpu.scc_microkernels import ROWS
from sccengine.kernels.cpu.scc_panels import clear_run, copy_run
from sccengine.kernels.cpu.simd import VECTOR_BYTES


@jit
def _pack_run(source, at, width, batch, shift, step, begin, end, packed, to):
    """Columns begin to end of a row (j, n) of y, read from the source row at ``at`` under a tap ``shift`` pixels on."""
    if step == 1:
        # One run of memory, of which a padded tap misses some pixels at either end.
        first = min(max(begin, -shift * batch), end)
        last = max(min(end, (width - shift) * batch), first)
        clear_run(packed, to, to + first - begin)
        copy_run(source, at + first + shift * batch, last - first, packed, to + first - begin)
        clear_run(packed, to + last - begin, to + end - begin)
        return
    column = begin
    while column < end:
        j = column // batch
        following = min((j + 1) * batch, end)
        w = j * step + shift
        if 0 <= w < width:
            copy_run(source, at + w * batch + column - j * batch, following - column, packed, to + column - begin)
        else:
            clear_run(packed, to + column - begin, to + following - begin)
        column = following


@jit
def cut_rows(column, count, row_columns, cuts):
    """Columns as pieces of rows (i, j, n) of y: (row, first column in it, end) each; how many there are."""
    pieces = 0
    end = column + count
    while column < end:
        row = column // row_columns
        begin = column - row * row_columns
        stop = min(row_columns, begin + end - column)
        cuts[pieces, 0], cuts[pieces, 1], cuts[pieces, 2] = row, begin, stop
        column += stop - begin
        pieces += 1
    return pieces


@jit
def pack_taps(
    source,  # (S, H, W, N) flat
    height,  # H
    width,  # W
    batch,  # N
    taps,  # (T, 2): dh, dw
    step_h,
    step_w,
    begin,  # panel rows s * T + t from begin
    end,
    cuts,  # of the columns, by cut_rows
    pieces,
    stride,  # from one packed row to the next
    packed,
):
    """Panel rows begin to end for some columns, with zeros up to a whole vector."""
    lanes = VECTOR_BYTES // source.itemsize
    for row in range(begin, end):
        plane, tap = row // len(taps), row % len(taps)
        to = (row - begin) * stride
        for piece in range(pieces):
            i, first, last = cuts[piece, 0], cuts[piece, 1], cuts[piece, 2]
            h = i * step_h + taps[tap, 0]
            if 0 <= h < height:
                at = (plane * height + h) * width * batch
                _pack_run(source, at, width, batch, taps[tap, 1], step_w, first, last, packed, to)
            else:
                clear_run(packed, to, to + last - first)
            to += last - first
        count = to - (row - begin) * stride
        clear_run(packed, to, to + (-count) % lanes)


@jit
def pack_tile(tile, weight, row_stride, plane_stride, tap_at, planes, filled, packed):
    """W of the rows of a tile, of which ``filled`` exist; W[r, s, t] = weight[r, s, tap_at[t]] by these strides."""
    at = tile * planes * len(tap_at) * ROWS
    for s in range(planes):
        for t in range(len(tap_at)):
            source = tile * ROWS * row_stride + s * plane_stride + tap_at[t]
            for r in range(filled):
                packed[np.uint64(at + r)] = weight[np.uint64(source + r * row_stride)]
            for r in range(filled, ROWS):
                packed[np.uint64(at + r)] = 0
            at += ROWS
