"""Global average pooling: y[c,n] = (1 / P) * sum_p x[c,p,n]; backward dx[c,p,n] = dy[c,n] / P.

x (C, P, N), y (C, N), P = H*W. Neighbouring threads hold neighbouring n. Memory must carry 4 * (C*P*N + C*N) bytes for
float32, forward and backward: C = 512, 4 x 4, N = 128 are 4.5 MB, a microsecond at 4.8 TB/s (H200).

v1: the forward takes a thread per output, which adds P numbers in order; the backward a thread per input.
v2: four images a thread, 16 bytes an access. In the forward a block makes one channel of up to LINE bytes of images;
    several of its threads share the pixels of one output, so that a layer of few images and channels has threads
    enough. Sums of slices are added in a fixed order. For float32 with N % 4 == 0, the forward at any N; else v1.
"""

from __future__ import annotations

import numpy as np
from numba import cuda

from sccengine.kernels.cuda.indexing import quotient, thread_index
from sccengine.kernels.cuda.intrinsics import load, load4, store, store4
from sccengine.kernels.cuda.launch import BLOCK as THREADS
from sccengine.kernels.cuda.launch import Build, blocks, divide_up, elements
from sccengine.kernels.cuda.vectors import LINE, vectors_serve


@cuda.jit
def forward_v1(
    x,  # (C, P, N)
    y,  # (C, N)
    pixels,  # P
    batch,  # N
    count,  # elements of y
):
    i = thread_index()
    if i >= count:
        return
    channel = quotient(i, batch)
    first = np.int32(channel * pixels * batch + (i - channel * batch))
    total = y.dtype.type(0)
    for p in range(pixels):
        total += x[np.uint32(first + p * batch)]
    y[i] = total / y.dtype.type(pixels)


@cuda.jit
def backward_v1(
    dy,  # (C, N)
    dx,  # (C, P, N)
    pixels,  # P
    batch,  # N
    count,  # elements of dx
):
    i = thread_index()
    if i >= count:
        return
    row = quotient(i, batch)
    channel = quotient(row, pixels)
    dx[i] = dy[np.uint32(channel * batch + (i - row * batch))] / dx.dtype.type(pixels)


def _averaging(lanes):
    """forward_v2 for 4 images a thread or 1."""
    LANES = lanes
    MEMORY = THREADS * LANES

    def forward_v2(
        x,  # (C, P, N)
        y,  # (C, N)
        chunk,  # lane groups of a block
        slices,  # threads that share the pixels of one output: a power of two
        parts,  # blocks of a channel
        groups,  # N / LANES
        pixels,  # P
    ):
        partial = cuda.shared.array(MEMORY, np.float32)
        total = cuda.local.array(LANES, np.float32)
        thread = np.int32(cuda.threadIdx.x)
        channel = quotient(cuda.blockIdx.x, parts)
        part = np.int32(cuda.blockIdx.x - channel * parts)
        first = quotient(thread, chunk)
        group = np.int32(part * chunk + thread - first * chunk)
        for lane in range(LANES):
            total[lane] = np.float32(0)
        if group < groups:
            for p in range(first, pixels, slices):
                at = np.int32(((channel * pixels + p) * groups + group) * LANES)
                if LANES == 4:
                    a, b, c, d = load4(x, at)
                    total[0] += a
                    total[1] += b
                    total[2] += c
                    total[3] += d
                else:
                    total[0] += load(x, at)
        half = np.int32(slices // 2)
        while half > 0:
            if half <= first < 2 * half:
                for lane in range(LANES):
                    store(partial, np.int32(lane * THREADS + thread), total[lane])
            cuda.syncthreads()
            if first < half:
                for lane in range(LANES):
                    total[lane] += load(partial, np.int32(lane * THREADS + thread + half * chunk))
            half = np.int32(half // 2)
        if first == 0 and group < groups:
            scale = np.float32(1) / np.float32(pixels)
            for lane in range(LANES):
                total[lane] *= scale
            at = np.int32((channel * groups + group) * LANES)
            if LANES == 4:
                store4(y, at, total[0], total[1], total[2], total[3])
            else:
                store(y, at, total[0])

    forward_v2.__name__ = forward_v2.__qualname__ = f"forward_v2_lanes_{LANES}"
    return cuda.jit(forward_v2)


FORWARD_V2 = {lanes: _averaging(lanes) for lanes in (4, 1)}


@cuda.jit
def backward_v2(
    dy,  # (C, N)
    dx,  # (C, P, N)
    count,  # C * P * groups
    groups,  # N / 4
    pixels,  # P
):
    i = thread_index()
    if i >= count:
        return
    row = quotient(i, groups)
    channel = quotient(row, pixels)
    a, b, c, d = load4(dy, np.int32((channel * groups + i - row * groups) * 4))
    scale = np.float32(1) / np.float32(pixels)
    store4(dx, np.int32(4 * i), a * scale, b * scale, c * scale, d * scale)


def forward(x, y):
    """y (C, N) from x (C, P, N)."""
    if x.dtype == np.float32:
        lanes = 4 if vectors_serve(x, y) else 1
        channels, pixels, batch = x.shape
        groups = batch // lanes
        chunk = min(groups, LINE // (4 * lanes))
        # Two pixels a thread at least, a power of two.
        slices = 1 << max(0, (min(pixels // 2, THREADS // chunk)).bit_length() - 1)
        parts = divide_up(groups, chunk)
        sizes = chunk, slices, parts, groups, pixels
        return blocks(FORWARD_V2[lanes], channels * parts, chunk * slices, x, y, *sizes)
    elements(forward_v1, y.size, x, y, *x.shape[1:], y.size)


def backward(dy, dx):
    """dx (C, P, N) from dy (C, N)."""
    if vectors_serve(dy, dx):
        return elements(backward_v2, dx.size // 4, dy, dx, dx.size // 4, dx.shape[2] // 4, dx.shape[1])
    elements(backward_v1, dx.size, dy, dx, *dx.shape[1:], dx.size)


COMPILE = [
    Build(forward_v1, "FFiii"),
    Build(backward_v1, "FFiii"),
    Build(FORWARD_V2[4], "FFiiiii", ("float32",), instructions=("LDG.E.128", "STG.E.128"), registers=64),
    Build(FORWARD_V2[1], "FFiiiii", ("float32",), registers=64),
    Build(backward_v2, "FFiii", ("float32",), instructions=("LDG.E.128", "STG.E.128"), registers=32),
]
