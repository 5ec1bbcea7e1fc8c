"""Small kernels that are right or wrong by how they are launched: races, barriers, memory that nobody wrote.

Both stand-ins for a GPU must find out which: Numba's simulator as the tests run it, and the machine that runs PTX.
"""

from numba import cuda, types

from sccengine.kernels.cuda.intrinsics import (
    ALIGNMENT,
    atomic_add,
    commit_copies,
    copy_async16,
    load4,
    shuffle_xor,
    store,
    store4,
    wait_copies_0,
    warp_sum,
)

float32 = types.float32
int32 = types.int32

WARP = 32
SIZE = 4 * WARP
BEFORE_IT_IS_READ, BEFORE_IT_IS_WRITTEN = 1, 2


@cuda.jit
def rotated(x, rounds, barriers):
    shared = cuda.shared.array(WARP, float32)
    thread = int32(cuda.threadIdx.x)
    value = x[thread]
    for _ in range(rounds):
        shared[thread] = value
        if barriers & BEFORE_IT_IS_READ:
            cuda.syncthreads()
        value = shared[thread - 1 if thread else 7]
        if barriers & BEFORE_IT_IS_WRITTEN:
            cuda.syncthreads()
    x[thread] = value


@cuda.jit
def written_by_lower_threads(x, y):
    shared = cuda.shared.array(WARP, float32)
    thread = int32(cuda.threadIdx.x)
    shared[thread] = x[thread]
    y[thread] = shared[thread - 1 if thread else 0]


@cuda.jit
def in_place(x, step):
    i = cuda.grid(1)
    x[i] = 2 * x[i - step if i >= step else i]


@cuda.jit
def read_by_all(x, y):
    i = cuda.grid(1)
    y[i] = x[0]
    cuda.syncthreads()
    if i == 7:
        x[0] = 2


@cuda.jit
def the_same_memory_twice(x, y, first):
    i = cuda.grid(1)
    y[i + first] = x[i]


@cuda.jit
def read_only(x):
    shared = cuda.shared.array(WARP, float32)
    if cuda.blockIdx.x == 0:
        shared[cuda.threadIdx.x] = 1
    x[cuda.grid(1)] = shared[cuda.threadIdx.x]


@cuda.jit
def through_a_warp(x):
    shared = cuda.shared.array(WARP, float32)
    thread = int32(cuda.threadIdx.x)
    shared[thread] = warp_sum(x[thread])
    shuffle_xor(float32(0), 1)
    x[thread] = shared[thread ^ 1]


@cuda.jit
def copied(x, y, shift):
    ring = cuda.shared.array(SIZE, float32, ALIGNMENT)
    thread = int32(cuda.threadIdx.x)
    copy_async16(ring, 4 * thread, x, 4 * thread, int32(16))
    commit_copies()
    cuda.syncthreads()
    wait_copies_0()
    a, b, c, d = load4(ring, 4 * (thread ^ shift))
    store4(y, 4 * thread, a, b, c, d)


@cuda.jit
def counted(x, together):
    if together:
        atomic_add(x, 0, float32(1))
    else:
        store(x, 0, float32(1))


@cuda.jit
def backwards(x):
    x[int32(cuda.threadIdx.x) - 1] = 0


@cuda.jit
def divergent(x, where):
    thread = int32(cuda.threadIdx.x)
    if thread == where:
        if x[0]:
            return
        cuda.syncthreads()
    else:
        cuda.syncthreads()
    x[thread + 1] = thread
