"""Building blocks of explicit SIMD: the host's vectors, and the few LLVM idioms that the microkernels are written in.

Microkernels (scc_microkernels.py, taps.py) are Numba intrinsics whose LLVM code is emitted by hand. They read arrays as
flat memory; sizes and offsets are int64. Each stands in a function of its own that LLVM must not inline: a kernel that
calls it from several places would otherwise take ten seconds to compile.
"""

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

INT = ir.IntType(64)
LANE = ir.IntType(32)


def _vector_bytes():
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 64
    return 32 if features.get("avx2") else 16


#: Bytes of a vector register of the host.
VECTOR_BYTES = _vector_bytes()


# Bytes of a pixel's batch below which it is short.
_SHORT_BATCH = 64


def is_short_batch(image):
    """Whether the batch of an image (C, H, W, N) is too short to be the vector that a kernel works with."""
    return image.shape[3] * image.itemsize < _SHORT_BATCH


def lowest(dtype, relu):
    """The least result that a microkernel lets pass: 0 with ReLU, else -inf."""
    return dtype.type(0.0 if relu else -np.inf)


def constant(value):
    return ir.Constant(INT, value)


def data_pointer(context, builder, array_type, array):
    return context.make_array(array_type)(context, builder, array).data


def element_type(array_type):
    return ir.FloatType() if array_type.dtype == types.float32 else ir.DoubleType()


def lane_count(array_type):
    return VECTOR_BYTES // (array_type.dtype.bitwidth // 8)


def vector_type(array_type):
    return ir.VectorType(element_type(array_type), lane_count(array_type))


def load(builder, pointer, vector):
    """A vector from memory aligned to its elements only."""
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=_alignment(vector))


def store(builder, value, pointer):
    """A vector to memory aligned to its elements only."""
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=_alignment(value.type))


def _alignment(vector):
    return 4 if isinstance(vector.element, ir.FloatType) else 8


def prefetch(builder, pointer):
    """Ask for the cache line at an address that will be read soon; one that is no memory of ours does no harm."""
    byte = ir.IntType(8).as_pointer()
    signature = ir.FunctionType(ir.VoidType(), [byte, LANE, LANE, LANE])
    function = builder.module.declare_intrinsic("llvm.prefetch", (byte,), signature)
    reading, nearest, data = LANE(0), LANE(3), LANE(1)
    builder.call(function, [builder.bitcast(pointer, byte), reading, nearest, data])


def broadcast(builder, scalar, vector):
    """The scalar in every lane."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, LANE(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(LANE, vector.count), [0] * vector.count))


def multiply_add(builder, vector):
    """The fused multiply-add of a vector type: call it with [a, b, c] for a * b + c."""
    suffix = "f32" if isinstance(vector.element, ir.FloatType) else "f64"
    signature = ir.FunctionType(vector, [vector] * 3)
    return cgutils.get_or_insert_function(builder.module, signature, f"llvm.fma.v{vector.count}{suffix}")


def at_least(builder, value, floor):
    """``floor`` where ``value`` is below it, else ``value``: one instruction, by which NaN stays NaN."""
    return builder.select(builder.fcmp_ordered(">", floor, value), floor, value)


def call_outlined(builder, name, emit, arguments):
    """Call the module's function ``name``, written by ``emit(builder, arguments)`` where it is not there yet."""
    function_type = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, function_type, name)
        function.linkage = "linkonce_odr"
        function.attributes.add("noinline")
        inner = ir.IRBuilder(function.append_basic_block("entry"))
        emit(inner, function.args)
        inner.ret_void()
    builder.call(function, arguments)
