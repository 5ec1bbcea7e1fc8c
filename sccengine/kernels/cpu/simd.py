"""Explicit SIMD: the microkernels of the channel-window contraction, written as LLVM vector code.

``outer_tile``  a tile of ROWS destination rows times up to VECTORS vectors of columns, kept in registers while one
                panel row after another is multiplied with a column of packed weights (forward and input gradient):

                    y[r, 0:n] = bias[r] + sum_i weights[i, r] * panel[i, 0:n]

``dot_tile``    ROWS x CHANNELS dot products along packed rows (weight gradient), the vector lanes summed at the end:

                    products[c, r] += sum_m a[r, m] * b[c, m]

``copy_vectors``  a run of whole vectors, three times as fast as the loop that LLVM makes of a Numba assignment loop.

LLVM's own vectoriser finds none of them: it would not keep the tile in registers. Lanes times registers are chosen for
the host: 32 registers of 64 bytes with AVX-512, 16 of 32 bytes with AVX2, 32 of 16 bytes on ARM.
"""

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def _register_file():
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 64, 8, 3, 3
    if features.get("avx2"):
        return 32, 4, 3, 3
    return 16, 8, 3, 3


#: Bytes of a vector; destination rows and vectors of columns of an outer tile; channels of a dot tile.
VECTOR_BYTES, ROWS, VECTORS, CHANNELS = _register_file()

_INT = ir.IntType(64)
_LANE = ir.IntType(32)


def _int(value):
    return ir.Constant(_INT, value)


def _vector_type(array_type):
    scalar = ir.FloatType() if array_type.dtype == types.float32 else ir.DoubleType()
    return ir.VectorType(scalar, VECTOR_BYTES // (array_type.dtype.bitwidth // 8))


def _data(context, builder, array_type, array):
    return context.make_array(array_type)(context, builder, array).data


def _load(builder, pointer, vector):
    alignment = vector.element.get_abi_size(_target_data())
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=alignment)


def _store(builder, value, pointer):
    alignment = value.type.element.get_abi_size(_target_data())
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=alignment)


def _target_data():
    return llvm.create_target_data("e")


def _broadcast(builder, scalar, vector):
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, _LANE(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_LANE, vector.count), [0] * vector.count))


def _fma(builder, vector):
    suffix = "f32" if isinstance(vector.element, ir.FloatType) else "f64"
    signature = ir.FunctionType(vector, [vector] * 3)
    return cgutils.get_or_insert_function(builder.module, signature, f"llvm.fma.v{vector.count}{suffix}")


@intrinsic
def copy_vectors(typing, source, source_at, target, target_at, count):
    """Copy ``count`` vectors from source[source_at:] to target[target_at:], both flat."""
    index = types.int64
    signature = types.void(source, index, target, index, index)

    def generate(context, builder, signature, args):
        source, target = (_data(context, builder, signature.args[i], args[i]) for i in (0, 2))
        _, source_at, _, target_at, count = args
        vector = _vector_type(signature.args[0])
        with cgutils.for_range(builder, count) as loop:
            at = builder.mul(loop.index, _int(vector.count))
            values = _load(builder, builder.gep(source, [builder.add(source_at, at)]), vector)
            _store(builder, values, builder.gep(target, [builder.add(target_at, at)]))
        return context.get_dummy_value()

    return signature, generate


def _make_outer_tile(vectors):
    @intrinsic
    def outer_tile(
        typing, panel, panel_at, stride, weights, weights_at, count, y, rows, rows_at, row_stride, column, bias
    ):
        """Write rows ``rows[rows_at : rows_at + ROWS]`` (-1: none) of y at ``column``; all arrays flat, sizes int64.

        Row i of the panel begins at panel_at + i * stride; the weights of panel row i at weights_at + i * ROWS; bias
        has one value a destination row, or is empty.
        """
        index = types.int64
        signature = types.void(panel, index, index, weights, index, index, y, rows, index, index, index, bias)

        def generate(context, builder, signature, args):
            panel, weights, y, rows, bias = (
                _data(context, builder, signature.args[i], args[i]) for i in (0, 3, 6, 7, 11)
            )
            _, panel_at, stride, _, weights_at, count, _, _, rows_at, row_stride, column, bias_array = args
            vector = _vector_type(signature.args[6])
            has_bias = builder.icmp_signed(
                ">", context.make_array(signature.args[11])(context, builder, bias_array).nitems, _int(0)
            )
            row = [
                builder.sext(builder.load(builder.gep(rows, [builder.add(rows_at, _int(r))])), _INT)
                for r in range(ROWS)
            ]
            used = [builder.icmp_signed(">=", r, _int(0)) for r in row]
            sums = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(ROWS)]
            for r in range(ROWS):
                start = cgutils.alloca_once_value(builder, ir.Constant(vector.element, 0.0))
                with builder.if_then(builder.and_(used[r], has_bias)):
                    builder.store(builder.load(builder.gep(bias, [row[r]])), start)
                for v in range(vectors):
                    builder.store(_broadcast(builder, builder.load(start), vector), sums[r][v])
            fma = _fma(builder, vector)
            with cgutils.for_range(builder, count) as loop:
                source = builder.gep(panel, [builder.add(panel_at, builder.mul(loop.index, stride))])
                columns = [
                    _load(builder, builder.gep(source, [_int(v * vector.count)]), vector) for v in range(vectors)
                ]
                weight = builder.gep(weights, [builder.add(weights_at, builder.mul(loop.index, _int(ROWS)))])
                for r in range(ROWS):
                    scale = _broadcast(builder, builder.load(builder.gep(weight, [_int(r)])), vector)
                    for v in range(vectors):
                        total = builder.call(fma, [scale, columns[v], builder.load(sums[r][v])])
                        builder.store(total, sums[r][v])
            for r in range(ROWS):
                with builder.if_then(used[r]):
                    target = builder.gep(y, [builder.add(builder.mul(row[r], row_stride), column)])
                    for v in range(vectors):
                        _store(builder, builder.load(sums[r][v]), builder.gep(target, [_int(v * vector.count)]))
            return context.get_dummy_value()

        return signature, generate

    return outer_tile


outer_tile_1, outer_tile_2, outer_tile_3 = (_make_outer_tile(vectors) for vectors in range(1, VECTORS + 1))


@intrinsic
def dot_tile(typing, a, a_at, b, b_at, stride, count, products, products_at):
    """Add to products[c * ROWS + r] the product of row r of a with row c of b along ``count`` vectors.

    Rows of a and b lie ``stride`` apart, from a_at and b_at; products begin at products_at. All arrays flat.
    """
    index = types.int64
    signature = types.void(a, index, b, index, index, index, products, index)

    def generate(context, builder, signature, args):
        a, b, products = (_data(context, builder, signature.args[i], args[i]) for i in (0, 2, 6))
        _, a_at, _, b_at, stride, count, _, products_at = args
        vector = _vector_type(signature.args[0])
        sums = [
            [cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * vector.count)) for _ in range(ROWS)]
            for _ in range(CHANNELS)
        ]
        fma = _fma(builder, vector)
        a_rows = [builder.gep(a, [builder.add(a_at, builder.mul(stride, _int(r)))]) for r in range(ROWS)]
        b_rows = [builder.gep(b, [builder.add(b_at, builder.mul(stride, _int(c)))]) for c in range(CHANNELS)]
        with cgutils.for_range(builder, count) as loop:
            at = builder.mul(loop.index, _int(vector.count))
            channels = [_load(builder, builder.gep(row, [at]), vector) for row in b_rows]
            for r in range(ROWS):
                filter_ = _load(builder, builder.gep(a_rows[r], [at]), vector)
                for c in range(CHANNELS):
                    total = builder.call(fma, [filter_, channels[c], builder.load(sums[c][r])])
                    builder.store(total, sums[c][r])
        for c in range(CHANNELS):
            totals = _sum_lanes(builder, [builder.load(pointer) for pointer in sums[c]])
            for i, total in enumerate(totals):
                at = builder.add(products_at, _int(c * ROWS + i * total.type.count))
                target = builder.gep(products, [at])
                _store(builder, builder.fadd(_load(builder, target, total.type), total), target)
        return context.get_dummy_value()

    return signature, generate


def _sum_lanes(builder, vectors):
    """The lane sums of several vectors, side by side in as few vectors as hold them.

    Halving steps: two vectors become one that holds the half-sums of the first in its low half and those of the
    second in its high half, so a step costs two shuffles and one addition for every two vectors.
    """
    count = vectors[0].type.count
    blocks = 1  # vectors summed up in each vector, each in count / blocks lanes
    while len(vectors) > 1 and blocks < count:
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
    mask = ir.VectorType(_LANE, len(lanes))
    first = builder.shuffle_vector(low, high, ir.Constant(mask, lanes))
    second = builder.shuffle_vector(low, high, ir.Constant(mask, [lane + step for lane in lanes]))
    return builder.fadd(first, second)
