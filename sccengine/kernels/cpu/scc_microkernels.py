"""The microkernels of the channel-window contraction, written as LLVM vector code.

``outer_tile``    one after another, tiles of some destination rows times some vectors of columns, each kept in
                  registers while one panel row after another is multiplied with a column of packed weights (forward and
                  input gradient):

                      y[r, 0:n] = max(floor, bias[r] + sum_i weights[i, r] * panel[i, 0:n])

``dot_tiles``     one after another, dot products of some rows with some channels (weight gradient), the lanes of the
                  sums being added up at the end:

                      products[c, r] += sum_m a[r, m] * b[c, m]

``copy_vectors``  a run of whole vectors, three times as fast as the loop that LLVM makes of a Numba assignment loop

LLVM's own vectoriser finds none of them: it would not keep the tile in registers. An outer tile fills the host's: 32 of
64 bytes with AVX-512, 16 of 32 bytes with AVX2, 32 of 16 bytes on ARM. It comes in two shapes: flat ones have half as
many rows as tall ones, so fewer rows with different windows share one. A dot tile reads no more rows at a time than a
first-level cache has ways, 8 or more: rows that lie a power of two apart would drive each other out of it.

A row gives an outer tile a few cache lines, too few for a processor to see where it will read on. So the columns of the
next tile are asked for while those of one are multiplied, in a long row and where both fit the first-level cache.
"""

from functools import partial

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sccengine.kernels.cpu.simd import (
    INT,
    LANE,
    VECTOR_BYTES,
    at_least,
    broadcast,
    call_outlined,
    constant,
    data_pointer,
    load,
    multiply_add,
    prefetch,
    store,
    vector_type,
)

#: Destination rows and vectors of columns of a tall outer tile, and of a flat one.
ROWS, VECTORS = (4, 3) if VECTOR_BYTES == 32 else (8, 3)
FLAT_ROWS, FLAT_VECTORS = (2, 5) if VECTOR_BYTES == 32 else (4, 6)
#: Rows and channels of a dot tile.
DOT_ROWS, DOT_CHANNELS = (4, 3) if VECTOR_BYTES == 32 else (4, 4)

# Columns are fetched ahead for so many tiles side by side at least, of so many bytes at most.
_FETCHED_TILES = 6
_FETCHED_BYTES = 3 << 12


@intrinsic
def copy_vectors(typing, source, source_at, target, target_at, count):
    """Copy ``count`` vectors from source[source_at:] to target[target_at:], both flat."""
    index = types.int64
    signature = types.void(source, index, target, index, index)

    def generate(context, builder, signature, args):
        source, target = (data_pointer(context, builder, signature.args[i], args[i]) for i in (0, 2))
        _, source_at, _, target_at, count = args
        vector = vector_type(signature.args[0])
        with cgutils.for_range(builder, count) as loop:
            at = builder.mul(loop.index, constant(vector.count))
            values = load(builder, builder.gep(source, [builder.add(source_at, at)]), vector)
            store(builder, values, builder.gep(target, [builder.add(target_at, at)]))
        return context.get_dummy_value()

    return signature, generate


def _make_outer_tile(row_count, vectors):
    @intrinsic
    def outer_tile(
        typing,
        panel,  # flat
        panel_at,  # of the first column
        begins,  # int64: panel row i has its columns from begins[begins_at + i] + panel_at on
        begins_at,
        weights,  # flat, row_count values a panel row
        weights_at,
        count,  # panel rows
        y,  # flat
        rows,  # int32: the destination rows are rows[rows_at : rows_at + row_count], -1 for none
        rows_at,
        row_stride,
        column,  # of y
        tiles,  # how many, side by side
        bias,  # one value a destination row, or empty
        floor,  # 0 for ReLU, -inf for none, in the arrays' type; NaN stays NaN
    ):
        index = types.int64
        signature = types.void(
            panel, index, begins, index, weights, index, index, y, rows, index, index, index, index, bias, panel.dtype
        )  # fmt: skip

        def generate(context, builder, signature, args):
            pointers = {i: data_pointer(context, builder, signature.args[i], args[i]) for i in (0, 2, 4, 7, 8, 13)}
            biases = context.make_array(signature.args[13])(context, builder, args[13]).nitems
            arguments = [pointers.get(i, argument) for i, argument in enumerate(args)] + [biases]
            name = f"sccengine_outer_tile_{row_count}_{vectors}_{signature.args[0].dtype}"
            emit = partial(_emit_outer_tile, row_count, vectors, vector_type(signature.args[0]))
            call_outlined(builder, name, emit, arguments)
            return context.get_dummy_value()

        return signature, generate

    return outer_tile


def _emit_outer_tile(row_count, vectors, vector, builder, arguments):
    panel, panel_at, begins, begins_at, weights, weights_at, count, y, rows, rows_at = arguments[:10]
    row_stride, column, tiles, bias, floor, biases = arguments[10:]
    row = [
        builder.sext(builder.load(builder.gep(rows, [builder.add(rows_at, constant(r))])), INT)
        for r in range(row_count)
    ]
    used = [builder.icmp_signed(">=", r, constant(0)) for r in row]
    has_bias = builder.icmp_signed(">", biases, constant(0))
    starts = [cgutils.alloca_once_value(builder, ir.Constant(vector.element, 0.0)) for _ in range(row_count)]
    for r in range(row_count):
        with builder.if_then(builder.and_(used[r], has_bias)):
            builder.store(builder.load(builder.gep(bias, [row[r]])), starts[r])
    targets = [builder.gep(y, [builder.add(builder.mul(r, row_stride), column)]) for r in row]
    floor = broadcast(builder, floor, vector)
    at = [constant(v * vector.count) for v in range(vectors)]
    is_long = builder.icmp_signed(">=", tiles, constant(_FETCHED_TILES))
    both_fit = builder.icmp_signed("<=", count, constant(_FETCHED_BYTES // (vectors * VECTOR_BYTES)))
    sums = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(row_count)]
    with cgutils.for_range(builder, tiles) as tile:
        begin = builder.mul(tile.index, constant(vectors * vector.count))
        for r in range(row_count):
            for v in range(vectors):
                builder.store(broadcast(builder, builder.load(starts[r]), vector), sums[r][v])
        source = builder.gep(panel, [builder.add(panel_at, begin)])
        factors = (source, begins, begins_at, weights, weights_at, count)
        with builder.if_else(builder.and_(is_long, both_fit)) as (fetching, alone):
            with fetching:
                is_last = builder.icmp_signed("==", builder.add(tile.index, constant(1)), tiles)
                ahead = builder.select(is_last, constant(0), constant(vectors * vector.count))
                _emit_products(builder, vector, sums, at, *factors, ahead)
            with alone:
                _emit_products(builder, vector, sums, at, *factors)
        for r in range(row_count):
            with builder.if_then(used[r]):
                for v in range(vectors):
                    result = at_least(builder, builder.load(sums[r][v]), floor)
                    store(builder, result, builder.gep(targets[r], [builder.add(begin, at[v])]))


def _emit_products(builder, vector, sums, at, source, begins, begins_at, weights, weights_at, count, ahead=None):
    """Add one panel row after another to the sums; ``ahead``: how far on the next tile's columns lie, to be fetched."""
    fma = multiply_add(builder, vector)
    with cgutils.for_range(builder, count) as loop:
        row_at = builder.load(builder.gep(begins, [builder.add(begins_at, loop.index)]))
        row = builder.gep(source, [row_at])
        columns = [load(builder, builder.gep(row, [begin]), vector) for begin in at]
        if ahead is not None:
            for begin in at:
                prefetch(builder, builder.gep(row, [builder.add(ahead, begin)]))
        weight = builder.gep(weights, [builder.add(weights_at, builder.mul(loop.index, constant(len(sums))))])
        for r, row_sums in enumerate(sums):
            scale = broadcast(builder, builder.load(builder.gep(weight, [constant(r)])), vector)
            for column, total in zip(columns, row_sums):
                builder.store(builder.call(fma, [scale, column, builder.load(total)]), total)


outer_tile_1, outer_tile_2, outer_tile_3 = (_make_outer_tile(ROWS, vectors) for vectors in (1, 2, VECTORS))
flat_tile_1, flat_tile_2, flat_tile_6 = (_make_outer_tile(FLAT_ROWS, vectors) for vectors in (1, 2, FLAT_VECTORS))


@intrinsic
def dot_tiles(
    typing,
    a,  # flat
    a_at,  # of the first column
    a_begins,  # int64: row r has its columns from a_begins[a_begins_at + r] + a_at on
    a_begins_at,
    b,  # flat: tiles * DOT_CHANNELS rows, likewise
    b_at,
    b_begins,
    b_begins_at,
    tiles,
    count,  # vectors
    products,  # flat: products[products_at + c * DOT_ROWS + r] is added to
    products_at,
):
    index = types.int64
    signature = types.void(a, index, a_begins, index, b, index, b_begins, index, index, index, products, index)

    def generate(context, builder, signature, args):
        pointers = {i: data_pointer(context, builder, signature.args[i], args[i]) for i in (0, 2, 4, 6, 10)}
        arguments = [pointers.get(i, argument) for i, argument in enumerate(args)]
        emit = partial(_emit_dot_tiles, vector_type(signature.args[0]))
        call_outlined(builder, f"sccengine_dot_tiles_{signature.args[0].dtype}", emit, arguments)
        return context.get_dummy_value()

    return signature, generate


def _emit_dot_tiles(vector, builder, arguments):
    a, a_at, a_begins, a_begins_at, b, b_at, b_begins, b_begins_at, tiles, count, products, products_at = arguments
    zeros = ir.Constant(vector, [0.0] * vector.count)
    a_rows = _rows_from(builder, a, a_at, a_begins, a_begins_at, DOT_ROWS)
    fma = multiply_add(builder, vector)
    sums = [[cgutils.alloca_once(builder, vector) for _ in range(DOT_ROWS)] for _ in range(DOT_CHANNELS)]
    with cgutils.for_range(builder, tiles) as tile:
        first = builder.mul(tile.index, constant(DOT_CHANNELS))
        b_rows = _rows_from(builder, b, b_at, b_begins, builder.add(b_begins_at, first), DOT_CHANNELS)
        for pointer in (pointer for channel in sums for pointer in channel):
            builder.store(zeros, pointer)
        with cgutils.for_range(builder, count) as loop:
            at = builder.mul(loop.index, constant(vector.count))
            channels = [load(builder, builder.gep(row, [at]), vector) for row in b_rows]
            for r in range(DOT_ROWS):
                filter_ = load(builder, builder.gep(a_rows[r], [at]), vector)
                for c in range(DOT_CHANNELS):
                    builder.store(builder.call(fma, [filter_, channels[c], builder.load(sums[c][r])]), sums[c][r])
        begin = builder.add(products_at, builder.mul(first, constant(DOT_ROWS)))
        totals = _sum_lanes(builder, [builder.load(pointer) for channel in sums for pointer in channel])
        for i, total in enumerate(totals):
            target = builder.gep(products, [builder.add(begin, constant(i * total.type.count))])
            store(builder, builder.fadd(load(builder, target, total.type), total), target)


def _rows_from(builder, array, at, begins, begins_at, count):
    """Pointers to column ``at`` of ``count`` rows, whose begins stand in a table."""
    begins = [builder.load(builder.gep(begins, [builder.add(begins_at, constant(i))])) for i in range(count)]
    return [builder.gep(array, [builder.add(at, begin)]) for begin in begins]


def _sum_lanes(builder, vectors):
    """The lane sums of several vectors, side by side in as few vectors as hold them.

    Halving steps: two vectors become one that holds the half-sums of the first in its low half and those of the
    second in its high half, so a step costs two shuffles and one addition for every two vectors.
    """
    count = vectors[0].type.count
    blocks = 1  # vectors summed up in each vector, each in count / blocks lanes
    while len(vectors) % 2 == 0 and blocks < count:
        vectors = [_fold_pair(builder, low, high, blocks) for low, high in zip(vectors[::2], vectors[1::2])]
        blocks *= 2
    while blocks < vectors[0].type.count:
        vectors = [_fold_halves(builder, vector, blocks) for vector in vectors]
    return vectors


def _fold_pair(builder, low, high, blocks):
    """Halve every block of both vectors; low's blocks stay in front of high's."""
    count = low.type.count
    width = count // blocks
    lanes = [start + lane for start in range(0, 2 * count, width) for lane in range(width // 2)]
    return _add_shuffled(builder, low, high, lanes, width // 2)


def _fold_halves(builder, vector, blocks):
    """Halve every block of one vector, giving a vector of half its lanes."""
    count = vector.type.count
    width = count // blocks
    lanes = [start + lane for start in range(0, count, width) for lane in range(width // 2)]
    return _add_shuffled(builder, vector, vector, lanes, width // 2)


def _add_shuffled(builder, low, high, lanes, step):
    mask = ir.VectorType(LANE, len(lanes))
    first = builder.shuffle_vector(low, high, ir.Constant(mask, lanes))
    second = builder.shuffle_vector(low, high, ir.Constant(mask, [lane + step for lane in lanes]))
    return builder.fadd(first, second)
