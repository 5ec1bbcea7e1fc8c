"""A sum over the threads of a block, always in the same order, so that equal inputs give equal bits."""

from numba import cuda as numba_cuda

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
