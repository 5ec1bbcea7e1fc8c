"""Small kernels around each function of kernels/cuda/intrinsics.py, with what NumPy says they must give.

The simulator's tests run them on the twins, the tests on a GPU on the machine, and the compile tests look for the
instructions. `COMPILE` has for each kernel its argument letters, the capability it needs and those instructions.
"""

import numpy as np
from numba import cuda, types

from sccengine.kernels.cuda import launch
from sccengine.kernels.cuda.intrinsics import (
    ALIGNMENT,
    bits,
    commit_copies,
    copy_async4,
    copy_async16,
    from_bf16,
    from_bits,
    ldmatrix_x4,
    ldmatrix_x4_transposed,
    load,
    load2,
    load4,
    max_nan,
    mma_bf16,
    mma_tf32,
    pack_bf16,
    shuffle_xor,
    store,
    store2,
    store4,
    to_bf16,
    to_tf32,
    wait_copies_0,
    wait_copies_1,
    wait_copies_2,
    warp_sum,
)
from sccengine.kernels.cuda.unroll import static, unrolled

float32 = types.float32
int32 = types.int32
uint16 = types.uint16

WARP = 32
SIZE = 4 * WARP
PIECES = 5
STAGES = 3
RING = STAGES * SIZE


@cuda.jit
def vectors(
    x,  # (2 * SIZE,)
    y,  # (2 * SIZE,): both halves of x reversed, in fours and in twos, times two
):
    fours = cuda.shared.array(SIZE, float32, ALIGNMENT)
    twos = cuda.shared.array(SIZE, float32, ALIGNMENT)
    thread = int32(cuda.threadIdx.x)
    a, b, c, d = load4(x, 4 * thread)
    store4(fours, 4 * thread, a, b, c, d)
    a, b = load2(x, SIZE + 2 * thread)
    store2(twos, 2 * thread, a, b)
    a, b = load2(x, SIZE + 2 * (WARP + thread))
    store2(twos, 2 * (WARP + thread), a, b)
    cuda.syncthreads()
    a, b, c, d = load4(fours, SIZE - 4 - 4 * thread)
    store4(y, 4 * thread, d + d, c + c, b + b, a + a)
    a, b = load2(twos, SIZE - 2 - 2 * thread)
    store2(y, SIZE + 2 * thread, b + b, a + a)
    a, b = load2(twos, SIZE - 2 - 2 * (WARP + thread))
    store2(y, SIZE + 2 * (WARP + thread), b + b, a + a)


def check_vectors(put, get):
    x = _random(2 * SIZE)
    y = put(np.zeros_like(x))
    launch.blocks(vectors, 1, WARP, put(x), y)
    np.testing.assert_array_equal(get(y), 2 * x.reshape(2, SIZE)[:, ::-1].ravel())


@cuda.jit
@unrolled
def unrolled_sums(
    x,  # (WARP + 8,)
    y,  # (WARP,): y[i] = sum of x[i : i + 8] and of x[i : i + 3] once more, as scalars
):
    thread = int32(cuda.threadIdx.x)
    total = float32(0)
    for k in static(8):
        total += load(x, thread + k)
        for again in static(k < 3):
            total += load(x, thread + k + again)
    store(y, thread, total)


def check_unrolled_sums(put, get):
    x = np.arange(WARP + 8, dtype=np.float32)
    y = put(np.zeros(WARP, np.float32))
    launch.blocks(unrolled_sums, 1, WARP, put(x), y)
    want = [x[i : i + 8].sum() + x[i : i + 3].sum() for i in range(WARP)]
    np.testing.assert_array_equal(get(y), want)


@cuda.jit
def copied(
    x,  # (size,)
    y,  # (PIECES * SIZE,): x, then zeros
    z,  # (PIECES * SIZE,): the same, copied four bytes at a time
    size,
):
    ring = cuda.shared.array(RING, float32, ALIGNMENT)
    single = cuda.shared.array(SIZE, float32, ALIGNMENT)
    thread = int32(cuda.threadIdx.x)
    for piece in range(STAGES - 1):
        i = int32(piece * SIZE) + 4 * thread
        left = min(max(int32(size) - i, int32(0)), int32(4))
        copy_async16(ring, int32(piece * SIZE) + 4 * thread, x, i if left > 0 else int32(0), 4 * left)
        commit_copies()
    for piece in range(PIECES):
        wait_copies_1()
        cuda.syncthreads()
        ahead = piece + STAGES - 1
        if ahead < PIECES:
            i = int32(ahead * SIZE) + 4 * thread
            left = min(max(int32(size) - i, int32(0)), int32(4))
            to = int32(ahead % STAGES * SIZE) + 4 * thread
            copy_async16(ring, to, x, i if left > 0 else int32(0), 4 * left)
        commit_copies()
        for part in range(4):
            i = int32(part * WARP) + thread
            # Another thread copied this element: it is there since the barrier.
            store(y, int32(piece * SIZE) + i, load(ring, int32(piece % STAGES * SIZE) + i))
    for piece in range(PIECES):
        for part in range(4):
            i = int32(piece * SIZE + part * WARP) + thread
            inside = i < size
            to = int32(part * WARP) + thread
            copy_async4(single, to, x, i if inside else int32(0), int32(4) if inside else int32(0))
            commit_copies()
        wait_copies_2()
        wait_copies_0()
        cuda.syncthreads()
        for part in range(4):
            i = 4 * thread + part
            store(z, int32(piece * SIZE) + i, load(single, i))
        cuda.syncthreads()


def check_copied(put, get):
    # Copies of 16 bytes start at multiples of 4 and end anywhere: the array is as long as the last vector.
    for size in (SIZE, 3 * SIZE + 10, PIECES * SIZE):
        x = np.zeros(PIECES * SIZE, np.float32)
        x[:size] = _random(size)
        source = np.full(-(-size // 4) * 4, np.nan, np.float32)
        source[:size] = x[:size]
        y, z = put(np.full_like(x, np.nan)), put(np.full_like(x, np.nan))
        launch.blocks(copied, 1, WARP, put(source), y, z, size)
        np.testing.assert_array_equal(get(y), x)
        np.testing.assert_array_equal(get(z), x)


@cuda.jit
def matrices(
    x,  # (SIZE,): the words of four matrices (8, 8) of 16-bit elements
    y,  # (SIZE,): what each lane gets from ldmatrix, four words a lane
    z,  # (SIZE,): and from the transposed one
):
    words = cuda.shared.array(SIZE, float32, ALIGNMENT)
    lane = int32(cuda.threadIdx.x)
    a, b, c, d = load4(x, 4 * lane)
    store4(words, 4 * lane, a, b, c, d)
    cuda.syncthreads()
    p = ldmatrix_x4(words, 4 * lane)
    store4(y, 4 * lane, from_bits(p[0]), from_bits(p[1]), from_bits(p[2]), from_bits(p[3]))
    p = ldmatrix_x4_transposed(words, 4 * lane)
    store4(z, 4 * lane, from_bits(p[0]), from_bits(p[1]), from_bits(p[2]), from_bits(p[3]))


def check_matrices(put, get):
    elements = np.random.default_rng(0).integers(0, 0x7F00, (4, 8, 8), dtype=np.uint16)
    y, z = (put(np.zeros(SIZE, np.float32)) for _ in range(2))
    launch.blocks(matrices, 1, WARP, put(elements.ravel().view(np.float32)), y, z)
    for got, matrix in ((get(y), elements), (get(z), elements.transpose(0, 2, 1))):
        pairs = got.view(np.uint16).reshape(8, 4, 4, 2)  # lane // 4, lane % 4, matrix, half
        np.testing.assert_array_equal(pairs.transpose(2, 0, 1, 3).reshape(4, 8, 8), matrix)


@cuda.jit
def product_tf32(
    a,  # (16, 8)
    b,  # (8, 8)
    c,  # (16, 8): c + a b afterwards
):
    lane = int32(cuda.threadIdx.x)
    r = lane // 4
    q = lane % 4
    a0, a1 = to_tf32(load(a, 8 * r + q)), to_tf32(load(a, 8 * (r + 8) + q))
    a2, a3 = to_tf32(load(a, 8 * r + q + 4)), to_tf32(load(a, 8 * (r + 8) + q + 4))
    b0, b1 = to_tf32(load(b, 8 * q + r)), to_tf32(load(b, 8 * (q + 4) + r))
    c0, c1 = load2(c, 8 * r + 2 * q)
    c2, c3 = load2(c, 8 * (r + 8) + 2 * q)
    d0, d1, d2, d3 = mma_tf32(a0, a1, a2, a3, b0, b1, c0, c1, c2, c3)
    store2(c, 8 * r + 2 * q, d0, d1)
    store2(c, 8 * (r + 8) + 2 * q, d2, d3)


def check_product_tf32(put, get):
    a, b, c = _random(16, 8), _random(8, 8), _random(16, 8)
    result = put(c)
    launch.blocks(product_tf32, 1, WARP, put(a), put(b), result)
    np.testing.assert_allclose(get(result), c + _tf32(a).astype(np.float64) @ _tf32(b), rtol=1e-5, atol=1e-5)


@cuda.jit
def product_bf16(
    a,  # (16, 16)
    b,  # (16, 8)
    c,  # (16, 8): c + a b afterwards
):
    lane = int32(cuda.threadIdx.x)
    r = lane // 4
    q = lane % 4
    x, y = load2(a, 16 * r + 2 * q)
    a0 = pack_bf16(x, y)
    x, y = load2(a, 16 * (r + 8) + 2 * q)
    a1 = pack_bf16(x, y)
    x, y = load2(a, 16 * r + 2 * q + 8)
    a2 = pack_bf16(x, y)
    x, y = load2(a, 16 * (r + 8) + 2 * q + 8)
    a3 = pack_bf16(x, y)
    b0 = pack_bf16(load(b, 8 * (2 * q) + r), load(b, 8 * (2 * q + 1) + r))
    b1 = pack_bf16(load(b, 8 * (2 * q + 8) + r), load(b, 8 * (2 * q + 9) + r))
    c0, c1 = load2(c, 8 * r + 2 * q)
    c2, c3 = load2(c, 8 * (r + 8) + 2 * q)
    d0, d1, d2, d3 = mma_bf16(a0, a1, a2, a3, b0, b1, c0, c1, c2, c3)
    store2(c, 8 * r + 2 * q, d0, d1)
    store2(c, 8 * (r + 8) + 2 * q, d2, d3)


def check_product_bf16(put, get):
    a, b, c = _random(16, 16), _random(16, 8), _random(16, 8)
    result = put(c)
    launch.blocks(product_bf16, 1, WARP, put(a), put(b), result)
    np.testing.assert_allclose(get(result), c + _bf16(a).astype(np.float64) @ _bf16(b), rtol=1e-5, atol=1e-5)


@cuda.jit
def converted(
    x,  # (WARP,)
    y,  # (3, WARP): x rounded to tf32, to bf16, and its bits there and back
):
    half = cuda.shared.array(WARP, uint16, ALIGNMENT)
    lane = int32(cuda.threadIdx.x)
    value = load(x, lane)
    store(y, lane, from_bits(to_tf32(value)))
    store(half, lane, to_bf16(value))
    store(y, lane + WARP, from_bf16(load(half, lane)))
    store(y, lane + 2 * WARP, from_bits(bits(value)))


def check_converted(put, get):
    x = _random(WARP)
    x[:8] = 0, -0.0, np.inf, -np.inf, np.nan, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-11
    y = put(np.zeros((3, WARP), np.float32))
    launch.blocks(converted, 1, WARP, put(x), y)
    np.testing.assert_array_equal(get(y), [_tf32(x), _bf16(x), x])


@cuda.jit
def exchanged(
    x,  # (2, WARP)
    y,  # (2, 2, WARP): the neighbour's value, and the sum over the warp, for both rows
):
    thread = int32(cuda.threadIdx.x)
    lane = thread % WARP
    row = thread // WARP
    value = load(x, thread)
    store(y, 2 * WARP * row + lane, shuffle_xor(value, 1))
    store(y, 2 * WARP * row + WARP + lane, warp_sum(value))


def check_exchanged(put, get):
    x = np.random.default_rng(0).integers(-99, 99, (2, WARP)).astype(np.float32)
    y = put(np.zeros((2, 2, WARP), np.float32))
    launch.blocks(exchanged, 1, 2 * WARP, put(x), y)
    want = [[row[np.arange(WARP) ^ 1], np.full(WARP, row.sum())] for row in x]
    np.testing.assert_array_equal(get(y), want)


@cuda.jit
def larger(
    x,  # (WARP,)
    y,  # (WARP,)
    z,  # (WARP,): the larger of both
):
    lane = int32(cuda.threadIdx.x)
    store(z, lane, max_nan(load(x, lane), load(y, lane)))


def check_larger(put, get):
    x, y = _random(WARP), _random(1, WARP)[0]
    x[:5], y[:5] = (np.nan, 1, -np.inf, -3, np.inf), (0, np.nan, -np.inf, -np.inf, 0)
    z = put(np.zeros(WARP, np.float32))
    launch.blocks(larger, 1, WARP, put(x), put(y), z)
    np.testing.assert_array_equal(get(z), np.maximum(x, y))


CHECKS = (
    check_vectors,
    check_unrolled_sums,
    check_copied,
    check_matrices,
    check_product_tf32,
    check_product_bf16,
    check_converted,
    check_larger,
    check_exchanged,
)

COMPILE = [
    (vectors, "FF", (7, 5), ("LDG.E.128", "LDG.E.64", "STS.128", "LDS.128", "LDS.64", "STG.E.128", "STG.E.64")),
    (unrolled_sums, "FF", (7, 5), ("LDG.E",)),
    (copied, "FFFi", (8, 0), ("LDGSTS.E", "LDGSTS.E.BYPASS.128", "LDGDEPBAR", "DEPBAR.LE")),
    (matrices, "FFF", (7, 5), ("LDSM.16.M88.4", "LDSM.16.MT88.4")),
    (product_tf32, "FFF", (8, 0), ("HMMA.1688.F32.TF32",)),
    (product_bf16, "FFF", (8, 0), ("HMMA.16816.F32.BF16",)),
    (converted, "FF", (8, 0), ("F2F.BF16",)),
    (larger, "FFF", (8, 0), ("FMNMX.NAN",)),
    (exchanged, "FF", (7, 5), ("SHFL.BFLY",)),
]


def _random(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def _tf32(x):
    """x rounded to 10 bits after the point, ties away from zero."""
    with np.errstate(invalid="ignore"):
        fraction, exponent = np.frexp(x.astype(np.float64))
        rounded = np.trunc(np.abs(fraction) * 2**11 + 0.5) * np.sign(fraction)
        return np.where(np.isfinite(x), np.ldexp(rounded, exponent - 11), x).astype(np.float32)


def _bf16(x):
    """x rounded to 7 bits after the point, ties to even."""
    with np.errstate(invalid="ignore"):
        fraction, exponent = np.frexp(x.astype(np.float64))
        return np.where(np.isfinite(x), np.ldexp(np.rint(fraction * 2**8), exponent - 8), x).astype(np.float32)
