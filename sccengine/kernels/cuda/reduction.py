"""A sum over the threads of a block, always in the same order, so that equal inputs give equal bits.

block_sum   a tree in shared memory; blocks of THREADS threads
warps_sum   warps exchange registers, shared memory holds a number a warp: 2 barriers instead of 10; blocks of 1 to 32
            whole warps
"""

from numba import cuda as numba_cuda

from sccengine.kernels.cuda.intrinsics import warp_sum
from sccengine.kernels.cuda.launch import BLOCK as THREADS
from sccengine.kernels.cuda.launch import device_cuda as cuda


@numba_cuda.jit(device=True)
def block_sum(partial, value):
    """The sum of `value` over the THREADS threads of a one-dimensional block, returned to every one of them.

    partial: shared array (THREADS,), free again when the function returns. Every thread of the block calls it.
    """
    thread = cuda.threadIdx.x
    partial[thread] = value
    half = THREADS // 2
    while half > 0:
        cuda.syncthreads()
        if thread < half:
            partial[thread] += partial[thread + half]
        half //= 2
    cuda.syncthreads()
    total = partial[0]
    cuda.syncthreads()
    return total


@numba_cuda.jit(device=True)
def warps_sum(partial, value):
    """The sum of `value` over the threads of a one-dimensional block of whole warps, returned to every one of them.

    partial: shared array (32,), free again when the function returns. Every thread of the block calls it.
    """
    lane = cuda.threadIdx.x % 32
    value = warp_sum(value)
    if lane == 0:
        partial[cuda.threadIdx.x // 32] = value
    cuda.syncthreads()
    # Every warp adds the same numbers in the same order.
    value = warp_sum(partial[lane] if 32 * lane < cuda.blockDim.x else partial.dtype.type(0))
    cuda.syncthreads()
    return value
