"""The row kernels of depthwise convolution, for any kernel size and stride, as explicit LLVM vector code.

A tap is a source run shifted against the target run. The taps of one run form a grid, count_y x count_x, along which
source and weight offsets advance by constant steps (negative in an input gradient). Arrays are read as flat:

``weighted_taps``   target[j] = max(floor, init + sum_(i, k) weight[i, k] * source[i * step_y + k * step_x + j])
``gradient_taps``   the same without a floor and, of the source values that this reads,
                    sum over the lanes of sums[i, k] += sum_j source[i * step_y + k * step_x + j] * other[j]

for 0 <= j < length. LLVM vectorises neither from a loop: it would have to prove that nine shifted runs do not overlap
the target. For whole vectors, grids of up to 3 x 3 taps are written out where nothing accumulates, with weights and
sums in registers as far as a host has them. Other grids are loops, over blocks of four vectors, then single ones. What
fills no vector goes by fours and ones, so nothing is read past the end. Every element of the target is summed in the
same order, whichever takes it.
"""

import functools
import itertools

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
    vector_type,
)

_BLOCK_VECTORS = 4
# Rows and columns of taps up to which a grid is written out.
_SMALL = 3


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
    return signature, functools.partial(_call, "weighted_taps", _emit_weighted_taps, (0, 6, 12))


@intrinsic
def gradient_taps(
    typing,
    source,  # as above, down to the length
    source_at,
    count_y,
    step_y,
    count_x,
    step_x,
    weight,
    weight_at,
    weight_step_y,
    weight_step_x,
    init,
    accumulate,
    target,
    target_at,
    length,
    other,  # array
    other_at,
    sums,  # array: one vector of lanes a tap, in the order of the weights
    sums_at,  # in taps
):
    index = types.int64
    signature = types.void(
        source, index, index, index, index, index, weight, index, index, index, source.dtype, types.boolean,
        target, index, index, other, index, sums, index,
    )  # fmt: skip
    return signature, functools.partial(_call, "gradient_taps", _emit_gradient_taps, (0, 6, 12, 15, 17))


def _call(name, emit, arrays, context, builder, signature, args):
    """A call of the function of that name; of its arguments, those that are ``arrays`` become pointers."""
    array = signature.args[0]
    arguments = list(args)
    for i in arrays:
        arguments[i] = data_pointer(context, builder, signature.args[i], args[i])
    call_outlined(builder, f"sccengine_{name}_{array.dtype}", functools.partial(emit, array), arguments)
    return context.get_dummy_value()


def _emit_weighted_taps(array, builder, arguments):
    *common, floor = arguments
    _Taps(array, builder, common, floor=floor).emit()


def _emit_gradient_taps(array, builder, arguments):
    *common, other, other_at, sums, sums_at = arguments
    sums_at = builder.mul(sums_at, constant(lane_count(array)))
    _Taps(array, builder, common, other=_at(builder, other, other_at), sums=_at(builder, sums, sums_at)).emit()


class _Taps:
    """Writes the body of either function: the arguments that they share, and the floor, or other and sums."""

    def __init__(self, array, builder, common, floor=None, other=None, sums=None):
        source, source_at, self.count_y, self.step_y, self.count_x, self.step_x = common[:6]
        weight, weight_at, self.weight_step_y, self.weight_step_x = common[6:10]
        self.init, self.accumulate, target, target_at, self.length = common[10:]
        self.array = array
        self.builder = builder
        self.source = _at(builder, source, source_at)
        self.weight = _at(builder, weight, weight_at)
        self.target = _at(builder, target, target_at)
        self.floor = floor
        self.other = other
        self.sums = sums

    def emit(self):
        builder, lanes = self.builder, lane_count(self.array)
        done = cgutils.alloca_once_value(builder, constant(0))
        whole = builder.sdiv(self.length, constant(lanes))
        for rows, columns in self._small_grids():
            self._write_out(rows, columns, whole)
            builder.store(builder.mul(whole, constant(lanes)), done)
        with builder.if_then(builder.icmp_signed("<", builder.load(done), self.length)):
            _for_each_block(builder, done, self.length, lanes, element_type(self.array), self._block_in_a_loop)

    def _small_grids(self):
        """(rows, columns) up to 3 x 3: what is emitted in that turn runs where there are so many taps, and nothing
        accumulates."""
        builder, high = self.builder, 1 << 32
        counts = builder.add(builder.mul(self.count_y, constant(high)), self.count_x)
        after = builder.append_basic_block("after")
        switch = builder.switch(builder.select(self.accumulate, constant(-1), counts), after)
        for rows, columns in itertools.product(range(1, _SMALL + 1), repeat=2):
            block = builder.append_basic_block(f"taps_{rows}_{columns}")
            switch.add_case(constant(rows * high + columns), block)
            builder.position_at_end(block)
            yield rows, columns
            builder.branch(after)
        builder.position_at_end(after)

    def _write_out(self, rows, columns, whole):
        """All whole vectors with so many taps; what is summed up for each stays in a register until the end."""
        builder, vector = self.builder, vector_type(self.array)
        zero, init = ir.Constant(vector, [0.0] * vector.count), broadcast(builder, self.init, vector)
        taps = [self._tap(constant(y), constant(x), vector) for y, x in itertools.product(range(rows), range(columns))]
        registers = [cgutils.alloca_once_value(builder, zero) for _ in taps]
        inside = [(run, scale, register) for (run, scale, _), register in zip(taps, registers)]
        with cgutils.for_range(builder, whole) as loop:
            total = cgutils.alloca_once_value(builder, init)
            self._block(inside, builder.mul(loop.index, constant(vector.count)), vector, [total])
        if self.sums is not None:
            for (_, _, place), register in zip(taps, registers):
                store(builder, builder.fadd(load(builder, place, vector), builder.load(register)), place)

    def _block_in_a_loop(self, offset, vector, vectors):
        builder = self.builder
        totals = [cgutils.alloca_once(builder, vector) for _ in range(vectors)]
        with builder.if_else(self.accumulate) as (from_target, from_init):
            with from_target:
                for v, total in enumerate(totals):
                    place = _at(builder, self.target, offset, constant(v * vector.count))
                    builder.store(load(builder, place, vector), total)
            with from_init:
                for total in totals:
                    builder.store(broadcast(builder, self.init, vector), total)
        self._block(self._looped(vector), offset, vector, totals)

    def _looped(self, vector):
        """The one tap that stands in a loop over all."""
        builder = self.builder
        with cgutils.for_range(builder, self.count_y) as y, cgutils.for_range(builder, self.count_x) as x:
            yield self._tap(y.index, x.index, vector)

    def _tap(self, y, x, vector):
        """(where it reads, its weight in every lane, the place of its sums)"""
        builder = self.builder
        shift = builder.add(builder.mul(y, self.step_y), builder.mul(x, self.step_x))
        entry = builder.add(builder.mul(y, self.weight_step_y), builder.mul(x, self.weight_step_x))
        scale = broadcast(builder, builder.load(_at(builder, self.weight, entry)), vector)
        place = None
        if self.sums is not None:
            place = _at(builder, self.sums, builder.mul(entry, constant(lane_count(self.array))))
        return _at(builder, self.source, shift), scale, place

    def _block(self, taps, offset, vector, totals):
        """Neighbouring vectors of the target, one of each of ``totals``, from the taps: each as _tap gives it."""
        builder = self.builder
        fma = multiply_add(builder, vector)
        offsets = [builder.add(offset, constant(v * vector.count)) for v in range(len(totals))]
        factors = []
        if self.other is not None:
            factors = [load(builder, _at(builder, self.other, at), vector) for at in offsets]
        for run, scale, sums in taps:
            values = [load(builder, _at(builder, run, at), vector) for at in offsets]
            for value, total in zip(values, totals):
                builder.store(builder.call(fma, [scale, value, builder.load(total)]), total)
            if self.other is not None:
                store(builder, _add_products(builder, fma, factors, values, load(builder, sums, vector)), sums)
        for at, total in zip(offsets, totals):
            result = builder.load(total)
            if self.floor is not None:
                result = at_least(builder, result, broadcast(builder, self.floor, vector))
            store(builder, result, _at(builder, self.target, at))


def _at(builder, pointer, *offsets):
    for offset in offsets:
        pointer = builder.gep(pointer, [offset])
    return pointer


def _for_each_block(builder, done, length, lanes, element, body):
    """Emit body(offset, vector type, vectors) for every block from where ``done`` points to up to the length."""

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
    source, target = _at(builder, source, source_at), _at(builder, target, target_at)
    steps = (length, 1), (source_step, 2), (target_step, 1)
    conditions = [builder.icmp_signed("==", step, constant(value)) for step, value in steps]
    every_other = functools.reduce(builder.and_, conditions, builder.not_(accumulate))
    with builder.if_else(every_other) as (picking, copying_runs):
        # The same in steps that LLVM knows, and so can vectorise.
        with picking, cgutils.for_range(builder, count) as run:
            value = builder.load(_at(builder, source, builder.mul(run.index, constant(2))))
            builder.store(value, _at(builder, target, run.index))
        with copying_runs, cgutils.for_range(builder, count) as run:
            begin = _at(builder, source, builder.mul(run.index, source_step))
            end = _at(builder, target, builder.mul(run.index, target_step))
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
