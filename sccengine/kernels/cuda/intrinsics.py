"""What Numba-CUDA has no word for: vector accesses, asynchronous copies, tensor cores, warp sums; one function each.

`a`, `shared` and `global_` are pointers (types.CPointer, as launch passes arrays) or one-dimensional arrays
(cuda.shared.array), i counts elements. Indices are signed and never wrap around; vector accesses are aligned to their
width, so i is a multiple of 2 or 4 and a shared array is made with ALIGNMENT. Every function that says "warp" is
called by all 32 lanes together.

    load(a, i)  store(a, i, v)                       one element
    load2(a, i)  load4(a, i)                         float32: 64 and 128 bits, as a tuple; float64: as 128 bits each
    store2(a, i, x, y)  store4(a, i, x, y, z, w)     or two, aligned to 16 bytes
    tensor_at(address, first, count, like)           the `count` elements from number `first` of the tensor that lies at
                                                     a global address (uint64), of the dtype of the array `like`
    atomic_add(a, i, v)                              global memory: a[i] += v, in no particular order
    copy_async4(shared, si, global_, gi, nbytes)     4 or 16 bytes (cp.async, since 8.0): nbytes are read, the rest is
    copy_async16(shared, si, global_, gi, nbytes)    zero; shared holds them after commit_copies, wait_copies_n and, for
    commit_copies()  wait_copies_0/1/2()             other threads, a barrier. n: newest groups that may be under way
    ldmatrix_x4(shared, i)                           four 8x8 matrices of 16-bit elements (since 7.5); lane 8j + r gives
    ldmatrix_x4_transposed(shared, i)                the address of row r of matrix j, lane l gets from each the pair at
                                                     row l // 4, columns 2 (l % 4) and + 1 (transposed: column, rows)
    mma_tf32(a0..a3, b0, b1, c0..c3)                 warp: c (16, 8) + a (16, 8) b (8, 8), since 8.0
    mma_bf16(a0..a3, b0, b1, c0..c3)                 warp: c (16, 8) + a (16, 16) b (16, 8), since 8.0
    bits(x)  from_bits(u)                            float32 as uint32 and back
    to_tf32(x)                                       float32 rounded to tf32 (to nearest, ties away), as uint32
    to_bf16(x)  from_bf16(u)                         float32 rounded to bf16 (ties to even, since 8.0), as uint16
    pack_bf16(low, high)                             two of them in a uint32
    max_nan(x, y)                                    float32: the larger, NaN if one is NaN (since 8.0)
    thread_again()                                   cuda.threadIdx.x, asked anew: what is made of it takes no register
                                                     until then
    shuffle_xor(value, lane_mask)                    warp: the value of lane ^ lane_mask
    warp_sum(value)                                  warp: the sum over all lanes, added in a fixed order, in every lane

Which element a lane holds in an mma, with r = lane // 4 and q = lane % 4 (PTX ISA, "Matrix Fragments"):

    tf32   a: (r, q) (r+8, q) (r, q+4) (r+8, q+4)      b: (q, r) (q+4, r)          c: (r, 2q) (r, 2q+1) (r+8, 2q) ...
    bf16   a: the pairs from columns 2q, 2q+8 alike    b: the pairs from rows 2q, 2q+8     c: the same

An intrinsic emits LLVM code, which the simulator cannot run: there the twins of simulator_twins.py take their places.
"""

from llvmlite import ir
from numba import cuda, types
from numba.cuda.extending import intrinsic

from sccengine.kernels.cuda import launch

# For cuda.shared.array(SIZE, float32, ALIGNMENT): bytes. Numba aligns to one element, the simulator takes None only.
ALIGNMENT = None if launch.SIMULATED else 16

_FLOAT = ir.FloatType()
_INT8 = ir.IntType(8)
_INT16 = ir.IntType(16)
_INT32 = ir.IntType(32)
_GLOBAL_SPACE = 1
_SHARED_SPACE = 3
_WHOLE_WARP = 0xFFFFFFFF


def _address(context, builder, kind, value, index):
    if isinstance(kind, types.CPointer):
        return builder.gep(value, [index])
    return builder.gep(context.make_array(kind)(context, builder, value=value).data, [index])


def _shared_address(context, builder, kind, value, index):
    """The 32-bit address inside shared memory that ldmatrix and cp.async take."""
    address = _address(context, builder, kind, value, index)
    address = builder.bitcast(address, _INT8.as_pointer(address.type.addrspace))
    if address.type.addrspace != _SHARED_SPACE:
        address = builder.addrspacecast(address, _INT8.as_pointer(_SHARED_SPACE))
    return builder.ptrtoint(address, _INT32)


def _vector_address(context, builder, kind, value, index, width):
    address = _address(context, builder, kind, value, index)
    vector = ir.VectorType(address.type.pointee, width)
    return builder.bitcast(address, vector.as_pointer(address.type.addrspace))


def _vector_bytes(dtype, width):
    """What a vector access must be aligned to: its size, but no more than the 16 bytes that one access can have."""
    return min(16, width * dtype.bitwidth // 8)


def _inline(result, arguments, text, constraints, side_effect=False):
    return ir.InlineAsm(ir.FunctionType(result, arguments), text, constraints, side_effect=side_effect)


def _as_tuple(context, builder, kind, result):
    return context.make_tuple(builder, kind, [builder.extract_value(result, i) for i in range(4)])


@intrinsic
def load(typingctx, a, i):
    def generate(context, builder, signature, arguments):
        value = builder.load(_address(context, builder, signature.args[0], *arguments))
        value.align = a.dtype.bitwidth // 8
        return value

    return a.dtype(a, i), generate


@intrinsic
def store(typingctx, a, i, value):
    def generate(context, builder, signature, arguments):
        written = builder.store(arguments[2], _address(context, builder, signature.args[0], *arguments[:2]))
        written.align = a.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(a, i, a.dtype), generate


def _vector_load(width):
    def typed(typingctx, a, i):
        def generate(context, builder, signature, arguments):
            vector = builder.load(_vector_address(context, builder, signature.args[0], *arguments, width))
            vector.align = _vector_bytes(a.dtype, width)
            elements = [builder.extract_element(vector, _INT32(lane)) for lane in range(width)]
            return context.make_tuple(builder, signature.return_type, elements)

        return types.UniTuple(a.dtype, width)(a, i), generate

    return typed


def _store_vector(context, builder, signature, arguments):
    a, i, *elements = arguments
    address = _vector_address(context, builder, signature.args[0], a, i, len(elements))
    vector = ir.Constant(address.type.pointee, ir.Undefined)
    for lane, element in enumerate(elements):
        vector = builder.insert_element(vector, element, _INT32(lane))
    builder.store(vector, address).align = _vector_bytes(signature.args[0].dtype, len(elements))
    return context.get_dummy_value()


load2 = intrinsic(_vector_load(2))
load4 = intrinsic(_vector_load(4))


@intrinsic
def store2(typingctx, a, i, x, y):
    return types.void(a, i, *[a.dtype] * 2), _store_vector


@intrinsic
def store4(typingctx, a, i, x, y, z, w):
    return types.void(a, i, *[a.dtype] * 4), _store_vector


@intrinsic
def tensor_at(typingctx, address, first, count, like):
    def generate(context, builder, signature, arguments):
        element = context.get_data_type(like.dtype)
        # By way of the global address space, or the compiler would test at each access which space it is in.
        tensor = builder.inttoptr(arguments[0], element.as_pointer(_GLOBAL_SPACE))
        return builder.addrspacecast(builder.gep(tensor, [arguments[1]]), element.as_pointer())

    return types.CPointer(like.dtype)(types.uint64, types.int32, types.int32, like), generate


@intrinsic
def atomic_add(typingctx, a, i, value):
    def generate(context, builder, signature, arguments):
        address = _address(context, builder, signature.args[0], *arguments[:2])
        text = f"red.global.add.f{a.dtype.bitwidth} [$0], $1;"
        constraints = f"l,{'f' if a.dtype.bitwidth == 32 else 'd'},~{{memory}}"
        assembly = _inline(ir.VoidType(), [address.type, arguments[2].type], text, constraints, side_effect=True)
        builder.call(assembly, [address, arguments[2]])
        return context.get_dummy_value()

    return types.void(a, i, a.dtype), generate


def _copy_async(width, cache):
    text = f"cp.async.{cache}.shared.global [$0], [$1], {width}, $2;"

    def typed(typingctx, shared, si, global_, gi, nbytes):
        def generate(context, builder, signature, arguments):
            to = _shared_address(context, builder, signature.args[0], *arguments[:2])
            source = _address(context, builder, signature.args[2], *arguments[2:4])
            assembly = _inline(ir.VoidType(), [_INT32, source.type, _INT32], text, "r,l,r,~{memory}", side_effect=True)
            builder.call(assembly, [to, source, arguments[4]])
            return context.get_dummy_value()

        return types.void(shared, si, global_, gi, types.int32), generate

    return typed


# Through the first-level cache (ca) or past it (cg): only 16 bytes may pass it.
copy_async4 = intrinsic(_copy_async(4, "ca"))
copy_async16 = intrinsic(_copy_async(16, "cg"))


def _instruction(text):
    def typed(typingctx):
        def generate(context, builder, signature, arguments):
            builder.call(_inline(ir.VoidType(), [], text, "~{memory}", side_effect=True), [])
            return context.get_dummy_value()

        return types.void(), generate

    return typed


commit_copies = intrinsic(_instruction("cp.async.commit_group;"))
wait_copies_0 = intrinsic(_instruction("cp.async.wait_group 0;"))
wait_copies_1 = intrinsic(_instruction("cp.async.wait_group 1;"))
wait_copies_2 = intrinsic(_instruction("cp.async.wait_group 2;"))


def _ldmatrix(transposition):
    text = f"ldmatrix.sync.aligned.m8n8.x4{transposition}.shared.b16 {{$0,$1,$2,$3}}, [$4];"

    def typed(typingctx, shared, i):
        def generate(context, builder, signature, arguments):
            address = _shared_address(context, builder, signature.args[0], *arguments)
            four = ir.LiteralStructType([_INT32] * 4)
            # It reads shared memory, so it must not move across stores, barriers and waits.
            assembly = _inline(four, [_INT32], text, "=r,=r,=r,=r,r,~{memory}", side_effect=True)
            result = builder.call(assembly, [address], attrs=("convergent",))
            return _as_tuple(context, builder, signature.return_type, result)

        return types.UniTuple(types.uint32, 4)(shared, i), generate

    return typed


ldmatrix_x4 = intrinsic(_ldmatrix(""))
ldmatrix_x4_transposed = intrinsic(_ldmatrix(".trans"))


def _mma(shape, kind):
    text = (
        f"mma.sync.aligned.{shape}.row.col.f32.{kind}.{kind}.f32 "
        "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"
    )
    operands = [_INT32] * 6 + [_FLOAT] * 4

    def typed(typingctx, a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
        def generate(context, builder, signature, arguments):
            four = ir.LiteralStructType([_FLOAT] * 4)
            assembly = _inline(four, operands, text, "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f")
            result = builder.call(assembly, arguments, attrs=("convergent",))
            return _as_tuple(context, builder, signature.return_type, result)

        signature = types.UniTuple(types.float32, 4)(*[types.uint32] * 6, *[types.float32] * 4)
        return signature, generate

    return typed


mma_tf32 = intrinsic(_mma("m16n8k8", "tf32"))
mma_bf16 = intrinsic(_mma("m16n8k16", "bf16"))


@intrinsic
def bits(typingctx, x):
    return types.uint32(types.float32), lambda context, builder, signature, args: builder.bitcast(args[0], _INT32)


@intrinsic
def from_bits(typingctx, u):
    return types.float32(types.uint32), lambda context, builder, signature, args: builder.bitcast(args[0], _FLOAT)


@intrinsic
def to_tf32(typingctx, x):
    assembly = _inline(_INT32, [_FLOAT], "cvt.rna.tf32.f32 $0, $1;", "=r,f")
    return types.uint32(types.float32), lambda context, builder, signature, args: builder.call(assembly, args)


@intrinsic
def to_bf16(typingctx, x):
    assembly = _inline(_INT16, [_FLOAT], "cvt.rn.bf16.f32 $0, $1;", "=h,f")
    return types.uint16(types.float32), lambda context, builder, signature, args: builder.call(assembly, args)


@intrinsic
def pack_bf16(typingctx, low, high):
    assembly = _inline(_INT32, [_FLOAT, _FLOAT], "cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,f,f")
    return (
        types.uint32(types.float32, types.float32),
        lambda context, builder, signature, args: builder.call(assembly, args),
    )


@intrinsic
def max_nan(typingctx, x, y):
    assembly = _inline(_FLOAT, [_FLOAT, _FLOAT], "max.NaN.f32 $0, $1, $2;", "=f,f,f")
    return (
        types.float32(types.float32, types.float32),
        lambda context, builder, signature, args: builder.call(assembly, args),
    )


@intrinsic
def from_bf16(typingctx, u):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(builder.shl(builder.zext(arguments[0], _INT32), _INT32(16)), _FLOAT)

    return types.float32(types.uint16), generate


@intrinsic
def thread_again(typingctx):
    # A side effect, or the compiler would take the answer that it has already.
    assembly = _inline(_INT32, [], "mov.u32 $0, %tid.x;", "=r", side_effect=True)
    return types.int32(), lambda context, builder, signature, args: builder.call(assembly, args)


@cuda.jit(device=True)
def shuffle_xor(value, lane_mask):
    return cuda.shfl_xor_sync(_WHOLE_WARP, value, lane_mask)


@cuda.jit(device=True)
def warp_sum(value):
    # Two lanes that exchange add the same two numbers, so all lanes come to the same bits.
    for lane_mask in (16, 8, 4, 2, 1):
        value += cuda.shfl_xor_sync(_WHOLE_WARP, value, lane_mask)
    return value


if launch.SIMULATED:
    from sccengine.kernels.cuda.simulator_twins import *  # noqa: F403
