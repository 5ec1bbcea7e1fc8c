"""Packing the weights of a whole tile in vector registers, where no row of it has a zero to be filled in.

``interleave``    taps of rows that share a window, side by side: a transposition, row_count taps of every row at a time

                      packed[tap * row_count + r] = factor[r] * weight[rows[r] * width + tap]

``copy_taps``     row_count neighbouring taps of one filter, which are the weights of as many neighbouring channels

Both come for tall tiles and for flat ones (scc_microkernels.py). Numba's loops would store, or test, number by number.
"""

from functools import partial

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sccengine.kernels.cpu.scc_microkernels import FLAT_ROWS, ROWS
from sccengine.kernels.cpu.simd import (
    INT,
    LANE,
    broadcast,
    call_outlined,
    constant,
    data_pointer,
    element_type,
    load,
    store,
)


def _make_interleave(row_count):
    @intrinsic
    def interleave(
        typing,
        weight,  # flat
        rows,  # int32: the filters are rows[rows_at : rows_at + row_count]
        rows_at,
        width,  # taps of a filter
        scale,  # one factor a filter, or empty
        packed,  # flat
        packed_at,
        blocks,  # of row_count taps
    ):
        index = types.int64
        signature = types.void(weight, rows, index, index, scale, packed, index, index)

        def generate(context, builder, signature, args):
            pointers = {i: data_pointer(context, builder, signature.args[i], args[i]) for i in (0, 1, 4, 5)}
            factors = context.make_array(signature.args[4])(context, builder, args[4]).nitems
            arguments = [pointers.get(i, argument) for i, argument in enumerate(args)] + [factors]
            vector = ir.VectorType(element_type(signature.args[0]), row_count)
            name = f"sccengine_interleave_{row_count}_{signature.args[0].dtype}"
            call_outlined(builder, name, partial(_emit_interleave, vector), arguments)
            return context.get_dummy_value()

        return signature, generate

    return interleave


def _emit_interleave(vector, builder, arguments):
    weight, rows, rows_at, width, scale, packed, packed_at, blocks, factors = arguments
    has_factors = builder.icmp_signed(">", factors, constant(0))
    sources, scales = [], []
    for r in range(vector.count):
        row = builder.sext(builder.load(builder.gep(rows, [builder.add(rows_at, constant(r))])), INT)
        factor = cgutils.alloca_once_value(builder, ir.Constant(vector.element, 1.0))
        with builder.if_then(has_factors):
            builder.store(builder.load(builder.gep(scale, [row])), factor)
        sources.append(builder.gep(weight, [builder.mul(row, width)]))
        scales.append(broadcast(builder, builder.load(factor), vector))
    target = builder.gep(packed, [packed_at])
    with cgutils.for_range(builder, blocks) as loop:
        tap = builder.mul(loop.index, constant(vector.count))
        taken = [load(builder, builder.gep(source, [tap]), vector) for source in sources]
        scaled = [builder.fmul(values, factor) for values, factor in zip(taken, scales)]
        for k, values in enumerate(_transposed(builder, scaled)):
            at = builder.mul(builder.add(tap, constant(k)), constant(vector.count))
            store(builder, values, builder.gep(target, [at]))


def _transposed(builder, vectors):
    """As many vectors as each has lanes, transposed: perfect shuffles of both halves, as often as halving takes."""
    count = len(vectors)
    half = count // 2
    mask = ir.VectorType(LANE, count)
    low = [lane for i in range(half) for lane in (i, count + i)]
    masks = [ir.Constant(mask, low), ir.Constant(mask, [lane + half for lane in low])]
    for _ in range(half.bit_length()):
        pairs = zip(vectors[:half], vectors[half:])
        vectors = [builder.shuffle_vector(*pair, lanes) for pair in pairs for lanes in masks]
    return vectors


def _make_copy_taps(row_count):
    @intrinsic
    def copy_taps(typing, weight, weight_at, packed, packed_at):
        index = types.int64
        signature = types.void(weight, index, packed, index)

        def generate(context, builder, signature, args):
            weight, packed = (data_pointer(context, builder, signature.args[i], args[i]) for i in (0, 2))
            vector = ir.VectorType(element_type(signature.args[0]), row_count)
            store(builder, load(builder, builder.gep(weight, [args[1]]), vector), builder.gep(packed, [args[3]]))
            return context.get_dummy_value()

        return signature, generate

    return copy_taps


interleave_tall, interleave_flat = map(_make_interleave, (ROWS, FLAT_ROWS))
copy_taps_tall, copy_taps_flat = map(_make_copy_taps, (ROWS, FLAT_ROWS))
