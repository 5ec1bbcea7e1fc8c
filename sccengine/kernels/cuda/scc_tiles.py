"""SCC in tiles: filters whose windows overlap are worked on together and share what they read.

Filters, sorted by the start of their windows, are cut into tiles of at most TILE (windows.tiles). The windows of a
tile overlap, so their union is little longer than one of them, and it is one contiguous slice of a cyclic panel of
source rows. A block makes a tile of filters x COLUMNS columns of y:

    y[f,m] = bias[f] + sum over the panel's rows c of W(f,c) * x[c,m]
    W(f,c) = weight[f,tap] where tap = (c - start[f]) mod C is below K, else 0

The zeros cost arithmetic (and 0 * inf is NaN: an infinity in a channel spoils all filters of a tile that reads it), but
every x that a block has read serves TILE filters, and every weight COLUMNS columns.
Nothing is copied in global memory, and no case is special: wraps, O < D, O not a multiple of D, K = 1, dense.

dx is the same kernel with the roles of filters and channels exchanged (windows.transposed_tiles), since
dx[c,m] = sum_f W(f,c) * dy[f,m]. dweight is a product of rows, dweight[f,tap] = sum_m dy[f,m] * x[c,m]: a block makes
a tile of filters x COLUMNS panel rows, over one span of the columns m, and stores the entries inside the windows. If
there is more than one span, their sums are added afterwards in a fixed order: no atomics.

x (C, M), y (O, M), weight (O, K), M = H*W*N. Each thread holds PER_THREAD x PER_THREAD results in registers, THREADS_Y
rows and THREADS_X columns apart, so that neighbouring threads read and write neighbouring columns.
"""

from numba import cuda

from sccengine.kernels.cuda import launch
from sccengine.kernels.cuda.scc_window import tap_of

# A block's threads, and what it works on; the simulator's blocks are small, because its threads are Python threads.
THREADS_X, THREADS_Y, DEPTH, SPAN = (4, 2, 4, 32) if launch.SIMULATED else (16, 8, 16, 4096)
PER_THREAD = 4
TILE = THREADS_Y * PER_THREAD
COLUMNS = THREADS_X * PER_THREAD
THREADS = THREADS_X * THREADS_Y
MOST_SPANS = 64
# One more than a row, so that the threads of a warp that write a column of shared memory hit different banks.
TILE_PITCH = TILE + 1
COLUMNS_PITCH = COLUMNS + 1


@cuda.jit(device=True)
def multiply(left, right, total):
    """total[i,j] += sum_d left[d, row i of this thread] * right[d, column j of this thread]."""
    row = cuda.threadIdx.y
    column = cuda.threadIdx.x
    for d in range(DEPTH):
        for i in range(PER_THREAD):
            a = left[d, row + i * THREADS_Y]
            for j in range(PER_THREAD):
                total[i, j] += a * right[d, column + j * THREADS_X]


@cuda.jit
def contract_v1(
    source,  # (C, M) x; transposed: (O, M) dy
    weight,  # (O, K)
    bias,  # (O,), read only if has_bias
    starts,  # (O,)
    rows,  # (tiles, TILE): the rows of result that a tile makes, -1 where it is not full
    panel,  # (R,): rows of source
    first,  # (tiles,): a tile reads panel[first : first + length]
    length,  # (tiles,)
    result,  # (O, M) y; transposed: (C, M) dx
    has_bias,
    transposed,  # whether rows are channels and the panel holds filters
    C,
    K,
    M,
):
    weights = cuda.shared.array((DEPTH, TILE_PITCH), source.dtype)
    values = cuda.shared.array((DEPTH, COLUMNS), source.dtype)
    total = cuda.local.array((PER_THREAD, PER_THREAD), source.dtype)
    zero = source.dtype.type(0)
    for i in range(PER_THREAD):
        for j in range(PER_THREAD):
            total[i, j] = zero

    tile = cuda.blockIdx.y
    m0 = cuda.blockIdx.x * COLUMNS
    thread = cuda.threadIdx.y * THREADS_X + cuda.threadIdx.x
    for d0 in range(0, length[tile], DEPTH):
        depth = min(DEPTH, length[tile] - d0)
        for e in range(thread, DEPTH * COLUMNS, THREADS):
            d = e // COLUMNS
            column = e % COLUMNS
            value = zero
            if d < depth and m0 + column < M:
                value = source[panel[first[tile] + d0 + d] * M + m0 + column]
            values[d, column] = value
        for e in range(thread, DEPTH * TILE, THREADS):
            # Neighbouring threads take neighbouring taps of one filter: they lie side by side in memory.
            if transposed:
                d = e // TILE
                row = e % TILE
            else:
                d = e % DEPTH
                row = e // DEPTH
            here = rows[tile * TILE + row]
            value = zero
            if d < depth and here >= 0:
                there = panel[first[tile] + d0 + d]
                f = there if transposed else here
                tap = tap_of(starts[f], here if transposed else there, C)
                if tap < K:
                    value = weight[f * K + tap]
            weights[d, row] = value
        cuda.syncthreads()
        multiply(weights, values, total)
        cuda.syncthreads()

    for i in range(PER_THREAD):
        row = rows[tile * TILE + cuda.threadIdx.y + i * THREADS_Y]
        if row >= 0:
            offset = bias[row] if has_bias else zero
            for j in range(PER_THREAD):
                m = m0 + cuda.threadIdx.x + j * THREADS_X
                if m < M:
                    result[row * M + m] = total[i, j] + offset


@cuda.jit
def band_v1(
    dy,  # (O, M)
    x,  # (C, M)
    starts,  # (O,)
    rows,  # (tiles, TILE): the filters of a tile, -1 where it is not full
    panel,  # (R,): channels
    first,  # (tiles,): a tile's filters read panel[first : first + length]
    length,  # (tiles,)
    sums,  # (spans, O, K)
    span,  # columns that one block adds up
    O,
    C,
    K,
    M,
):
    left = cuda.shared.array((DEPTH, TILE_PITCH), dy.dtype)
    right = cuda.shared.array((DEPTH, COLUMNS_PITCH), dy.dtype)
    total = cuda.local.array((PER_THREAD, PER_THREAD), dy.dtype)
    zero = dy.dtype.type(0)
    for i in range(PER_THREAD):
        for j in range(PER_THREAD):
            total[i, j] = zero

    tile = cuda.blockIdx.y
    p0 = cuda.blockIdx.x * COLUMNS
    if p0 >= length[tile]:
        return
    thread = cuda.threadIdx.y * THREADS_X + cuda.threadIdx.x
    end = min(M, (cuda.blockIdx.z + 1) * span)
    for m0 in range(cuda.blockIdx.z * span, end, DEPTH):
        for e in range(thread, DEPTH * TILE, THREADS):
            m = m0 + e % DEPTH
            f = rows[tile * TILE + e // DEPTH]
            left[e % DEPTH, e // DEPTH] = dy[f * M + m] if f >= 0 and m < end else zero
        for e in range(thread, DEPTH * COLUMNS, THREADS):
            m = m0 + e % DEPTH
            p = p0 + e // DEPTH
            inside = p < length[tile] and m < end
            right[e % DEPTH, e // DEPTH] = x[panel[first[tile] + p] * M + m] if inside else zero
        cuda.syncthreads()
        multiply(left, right, total)
        cuda.syncthreads()

    for i in range(PER_THREAD):
        f = rows[tile * TILE + cuda.threadIdx.y + i * THREADS_Y]
        if f >= 0:
            for j in range(PER_THREAD):
                p = p0 + cuda.threadIdx.x + j * THREADS_X
                if p < length[tile]:
                    tap = tap_of(starts[f], panel[first[tile] + p], C)
                    if tap < K:
                        sums[(cuda.blockIdx.z * O + f) * K + tap] = total[i, j]


@cuda.jit
def add_spans_v1(
    sums,  # (spans, O, K)
    dweight,  # (O, K)
    spans,
    count,  # elements of dweight
):
    i = cuda.grid(1)
    if i >= count:
        return
    total = sums[i]
    for s in range(1, spans):
        total += sums[s * count + i]
    dweight[i] = total


def forward(x, weight, bias, y, windows):
    """y (O, M) from x (C, M), weight (O, K) and bias (O,) or None."""
    _contract(x, weight, bias, y, windows, windows.tiles(TILE), False)


def backward_input(dy, weight, dx, windows):
    """dx (C, M) from dy (O, M) and weight (O, K)."""
    _contract(dy, weight, None, dx, windows, windows.transposed_tiles(TILE), True)


def backward_weight(dy, x, dweight, windows):
    """dweight (O, K) from dy (O, M) and x (C, M)."""
    tiles = windows.tiles(TILE)
    columns = x.shape[1]
    spans = min(MOST_SPANS, launch.divide_up(columns, SPAN))
    span = launch.divide_up(launch.divide_up(columns, spans), DEPTH) * DEPTH
    spans = launch.divide_up(columns, span)
    sums = dweight if spans == 1 else launch.empty((spans, *dweight.shape), like=dweight)
    grid = (launch.divide_up(int(tiles.length.max()), COLUMNS), tiles.count, spans)
    sizes = windows.out_channels, windows.in_channels, windows.width, columns
    launch.blocks(band_v1, grid, (THREADS_X, THREADS_Y), dy, x, *_tables(windows, tiles, x), sums, span, *sizes)
    if spans > 1:
        launch.elements(add_spans_v1, dweight.size, sums, dweight, spans, dweight.size)


def _contract(source, weight, bias, result, windows, tiles, transposed):
    columns = source.shape[1]
    launch.blocks(
        contract_v1,
        (launch.divide_up(columns, COLUMNS), tiles.count),
        (THREADS_X, THREADS_Y),
        source,
        weight,
        bias,
        *_tables(windows, tiles, source),
        result,
        bias is not None,
        transposed,
        windows.in_channels,
        windows.width,
        columns,
    )


def _tables(windows, tiles, like):
    tables = windows.starts, tiles.rows, tiles.panel, tiles.first, tiles.length
    return [launch.table(each, like) for each in tables]


COMPILE = [
    launch.Build(contract_v1, "FFFIIIIIFiiiii"),
    launch.Build(band_v1, "FFIIIIIFiiiii"),
    launch.Build(add_spans_v1, "FFii"),
]
