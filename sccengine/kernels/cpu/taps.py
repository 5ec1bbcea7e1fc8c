"""The row kernels of depthwise convolution, for any kernel size and stride, as explicit LLVM vector code.

A tap is a source run shifted against the target run. The taps of one run form a grid, count_y x count_x, along which
source and weight offsets advance by constant steps (negative in an input gradient). Arrays are read as flat:

``weighted_taps``   target[j] = max(floor, init + sum_(i, k) weight[i, k] * source[i * step_y + k * step_x + j])
``tap_products``    sums[i, k, lane] += sum_j source[i * step_y + k * step_x + j] * other[j],    lane = j mod lanes

for 0 <= j < length. LLVM vectorises neither from a loop: it would have to prove that nine shifted runs do not overlap
the target. Runs are cut into blocks of four vectors, then single vectors, fours and ones, so nothing is read past the
end and every element is summed in the same order.
"""

import functools

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sccengine.kernels.cpu.compile import jit
from sccengine.kernels.cpu.simd import (
    at_least,
    broadcast,
    call_outlined,
    constant,
    data_pointer,
    element_type,
    lane_count,
    load,
    multiply_add,
    store,
)

_BLOCK_VECTORS = 4


def _for_each_block(builder, length, lanes, element, body):
    """Emit body(offset, vector type, vectors) for every block of 0..length."""
    done = cgutils.alloca_once_value(builder, constant(0))

    def blocks(width, vectors):
        step = width * vectors
        first = builder.load(done)
        count = builder.sdiv(builder.sub(length, first), constant(step))
        with cgutils.for_range(builder, count) as loop:
            body(builder.add(first, builder.mul(loop.index, constant(step))), ir.VectorType(element, width), vectors)
        builder.store(builder.add(first, builder.mul(count, constant(step))), done)

    blocks(lanes, _BLOCK_VECTORS)
    blocks(lanes, 1)
    if lanes > 4:
        blocks(4, 1)
    blocks(1, 1)


def _at(builder, pointer, *offsets):
    for offset in offsets:
        pointer = builder.gep(pointer, [offset])
    return pointer


@intrinsic
def weighted_taps(
    typing,
    source,  # array
    source_at,  # of the first tap
    count_y,
    step_y,  # in the source
    count_x,
    step_x,
    weight,  # array
    weight_at,
    weight_step_y,
    weight_step_x,
    init,  # scalar of the arrays' type
    accumulate,  # bool: start from the target instead of init
    target,  # array
    target_at,
    length,
    floor,  # 0 for ReLU, -inf for none, in the arrays' type; NaN stays NaN
):
    index = types.int64
    signature = types.void(
        source, index, index, index, index, index, weight, index, index, index, source.dtype, types.boolean,
        target, index, index, source.dtype,
    )  # fmt: skip

    def generate(context, builder, signature, args):
        array = signature.args[0]
        arguments = list(args)
        for i in (0, 6, 12):
            arguments[i] = data_pointer(context, builder, signature.args[i], args[i])
        name = f"sccengine_weighted_taps_{array.dtype}"
        call_outlined(builder, name, functools.partial(_emit_weighted_taps, array), arguments)
        return context.get_dummy_value()

    return signature, generate


def _emit_weighted_taps(array, builder, arguments):
    source, source_at, count_y, step_y, count_x, step_x, weight, weight_at, weight_y, weight_x = arguments[:10]
    init, accumulate, target, target_at, length, floor = arguments[10:]
    source = _at(builder, source, source_at)
    weight = _at(builder, weight, weight_at)
    target = _at(builder, target, target_at)

    def block(offset, vector, vectors):
        fma = multiply_add(builder, vector)
        sums = [cgutils.alloca_once(builder, vector) for _ in range(vectors)]
        places = [_at(builder, target, offset, constant(v * vector.count)) for v in range(vectors)]
        with builder.if_else(accumulate) as (from_target, from_init):
            with from_target:
                for place, total in zip(places, sums):
                    builder.store(load(builder, place, vector), total)
            with from_init:
                for total in sums:
                    builder.store(broadcast(builder, init, vector), total)
        with cgutils.for_range(builder, count_y) as y, cgutils.for_range(builder, count_x) as x:
            shift = builder.add(builder.mul(y.index, step_y), builder.mul(x.index, step_x))
            entry = builder.add(builder.mul(y.index, weight_y), builder.mul(x.index, weight_x))
            run = _at(builder, source, offset, shift)
            scale = broadcast(builder, builder.load(_at(builder, weight, entry)), vector)
            for v, total in enumerate(sums):
                values = load(builder, _at(builder, run, constant(v * vector.count)), vector)
                builder.store(builder.call(fma, [scale, values, builder.load(total)]), total)
        lowest = broadcast(builder, floor, vector)
        for place, total in zip(places, sums):
            store(builder, at_least(builder, builder.load(total), lowest), place)

    _for_each_block(builder, length, lane_count(array), element_type(array), block)


@intrinsic
def tap_products(
    typing,
    source,  # array
    source_at,  # of the first tap
    count_y,
    step_y,  # in the source
    count_x,
    step_x,
    other,  # array
    other_at,
    length,
    sums,  # one vector of lanes a tap
    sums_at,  # in taps
    sums_step_y,
    sums_step_x,
):
    index = types.int64
    signature = types.void(
        source, index, index, index, index, index, other, index, index, sums, index, index, index
    )  # fmt: skip

    def generate(context, builder, signature, args):
        array = signature.args[0]
        arguments = list(args)
        for i in (0, 6, 9):
            arguments[i] = data_pointer(context, builder, signature.args[i], args[i])
        name = f"sccengine_tap_products_{array.dtype}"
        call_outlined(builder, name, functools.partial(_emit_tap_products, array), arguments)
        return context.get_dummy_value()

    return signature, generate


def _emit_tap_products(array, builder, arguments):
    source, source_at, count_y, step_y, count_x, step_x, other, other_at, length = arguments[:9]
    sums, sums_at, sums_y, sums_x = arguments[9:]
    lanes = lane_count(array)
    source = _at(builder, source, source_at)
    other = _at(builder, other, other_at)
    sums = _at(builder, sums, builder.mul(sums_at, constant(lanes)))

    def block(offset, vector, vectors):
        fma = multiply_add(builder, vector)
        run = _at(builder, other, offset)
        factors = [load(builder, _at(builder, run, constant(v * vector.count)), vector) for v in range(vectors)]
        with cgutils.for_range(builder, count_y) as y, cgutils.for_range(builder, count_x) as x:
            shift = builder.add(builder.mul(y.index, step_y), builder.mul(x.index, step_x))
            entry = builder.add(builder.mul(y.index, sums_y), builder.mul(x.index, sums_x))
            run = _at(builder, source, offset, shift)
            place = _at(builder, sums, builder.mul(entry, constant(lanes)))
            values = [load(builder, _at(builder, run, constant(v * vector.count)), vector) for v in range(vectors)]
            store(builder, _add_products(builder, fma, factors, values, load(builder, place, vector)), place)

    _for_each_block(builder, length, lanes, element_type(array), block)


def _add_products(builder, fma, factors, values, total):
    """total + the sum of factors times values, in two chains that need not wait for the memory behind ``total``."""
    if len(factors) == 1:
        return builder.call(fma, [factors[0], values[0], total])
    chains = [builder.fmul(factors[0], values[0]), builder.fmul(factors[1], values[1])]
    for v in range(2, len(factors)):
        chains[v % 2] = builder.call(fma, [factors[v], values[v], chains[v % 2]])
    return builder.fadd(total, builder.fadd(*chains))


@intrinsic
def copy_runs(
    typing,
    source,  # array
    source_at,
    source_step,
    target,  # array
    target_at,
    target_step,
    count,  # of runs
    length,  # of a run
    accumulate,  # bool: add to the target
):
    """Copy ``count`` runs of ``length`` numbers, the steps apart."""
    index = types.int64
    signature = types.void(source, index, index, target, index, index, index, index, types.boolean)

    def generate(context, builder, signature, args):
        arguments = list(args)
        for i in (0, 3):
            arguments[i] = data_pointer(context, builder, signature.args[i], args[i])
        call_outlined(builder, f"sccengine_copy_runs_{signature.args[0].dtype}", _emit_copy_runs, arguments)
        return context.get_dummy_value()

    return signature, generate


def _emit_copy_runs(builder, arguments):
    source, source_at, source_step, target, target_at, target_step, count, length, accumulate = arguments
    with cgutils.for_range(builder, count) as run:
        begin = _at(builder, source, source_at, builder.mul(run.index, source_step))
        end = _at(builder, target, target_at, builder.mul(run.index, target_step))
        with builder.if_else(accumulate) as (adding, copying):
            with adding, cgutils.for_range(builder, length) as i:
                place = _at(builder, end, i.index)
                value = builder.load(_at(builder, begin, i.index))
                builder.store(builder.fadd(builder.load(place), value), place)
            with copying, cgutils.for_range(builder, length) as i:
                builder.store(builder.load(_at(builder, begin, i.index)), _at(builder, end, i.index))


@jit
def sum_lanes(
    sums,  # flat: one vector of lanes a tap
    lanes,
    dweight,  # (O, kh, kw), filter f written
    f,
):
    kw = dweight.shape[2]
    for tap in range(sums.size // lanes):
        total = 0.0
        for lane in range(lanes):
            total += sums[tap * lanes + lane]
        dweight[f, tap // kw, tap % kw] = total
