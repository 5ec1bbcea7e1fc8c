"""A faster scheduler for the blocks of Numba's CUDA simulator; `install` puts it in place of Numba's own.

Numba's simulator starts an operating-system thread for every CUDA thread of every block and polls them in a loop
until all have come to a barrier. Here

* the threads of a kernel without barriers run one after another, as plain calls;
* the threads of a kernel with barriers are kept for the next block, and pass a baton round: each runs to its next
  barrier, then wakes its neighbour and sleeps. When the baton comes back, all others have come to the barrier too;
* a device function that does not use ``cuda`` is called as it is, without swapping names in its module.

The order is always the same, and unkind to a forgotten barrier: a thread runs as far as it can before the next one
starts, so it reads what its neighbours have not written yet, or overwrites what they have not read yet.
"""

import itertools
import threading

from numba import cuda
from numba.cuda.simulator import kernel as simulator

Dim3 = simulator.Dim3
FakeCUDAKernel = simulator.FakeCUDAKernel

# Called as observer(kernel, arguments) at every launch.
observers = []

_workers = []
_with_barriers = {}
_using_cuda = {}


class Abandoned(Exception):
    """Ends the threads of a block in which another thread has raised an exception."""


class Worker(threading.Thread):
    """Runs one CUDA thread of one block after another."""

    def __init__(self):
        super().__init__(daemon=True)
        self.turn = threading.Semaphore(0)
        self.start()

    def run(self):
        while True:
            self.turn.acquire()
            self.block.run_thread(self)

    def syncthreads(self):
        self.block.barrier(self)


class Block:
    """One block with barriers: its workers in the order in which the baton goes round."""

    def __init__(self, function, args, workers):
        self.function = function
        self.args = args
        self.alive = list(workers)
        self.error = None
        self.done = threading.Semaphore(0)

    def run(self):
        self.alive[0].turn.release()
        self.done.acquire()
        if self.error is not None:
            raise self.error

    def run_thread(self, worker):
        try:
            if self.error is None:
                self.function(*self.args)
        except Abandoned:
            pass
        except Exception as error:
            self.error = _located(error, worker)
        following = self._after(worker)
        self.alive.remove(worker)
        (following.turn if self.alive else self.done).release()

    def barrier(self, worker):
        following = self._after(worker)
        if following is not worker:
            following.turn.release()
            worker.turn.acquire()
        if self.error is not None:
            raise Abandoned

    def _after(self, worker):
        return self.alive[(self.alive.index(worker) + 1) % len(self.alive)]


def install():
    """Replaces the simulator's way of running a block and of calling a device function, for this process."""
    simulator.BlockManager.run = _run_block
    numbas_call = FakeCUDAKernel.__call__

    def call(self, *args):
        if self._device and not _uses_cuda(self.fn):
            return self.fn(*args)
        if not self._device:
            for observe in observers:
                observe(self, args)
        return numbas_call(self, *args)

    FakeCUDAKernel.__call__ = call


def _run_block(manager, grid_point, *args):
    shape = manager._block_dim
    # x counts fastest, as on a GPU.
    points = [Dim3(x, y, z) for z, y, x in itertools.product(*(range(n) for n in reversed(shape)))]
    if _has_barriers(manager._f):
        while len(_workers) < len(points):
            _workers.append(Worker())
        workers = _workers[: len(points)]
        block = Block(manager._f, args, workers)
        for thread_id, (worker, point) in enumerate(zip(workers, points)):
            worker.block = block
            _place(worker, grid_point, point, thread_id)
        block.run()
    else:
        thread = threading.current_thread()
        for thread_id, point in enumerate(points):
            _place(thread, grid_point, point, thread_id)
            try:
                manager._f(*args)
            except Exception as error:
                raise _located(error, thread) from error


def _place(thread, grid_point, point, thread_id):
    thread.blockIdx = Dim3(*grid_point)
    thread.threadIdx = point
    thread.thread_id = thread_id


def _located(error, thread):
    where = f"thread {tuple(thread.threadIdx)} of block {tuple(thread.blockIdx)}"
    located = RuntimeError(f"{type(error).__name__} in {where}: {error}")
    located.__cause__ = error
    return located


def _has_barriers(function):
    if function not in _with_barriers:
        names = function.__code__.co_names
        called = (function.__globals__.get(name) for name in names)
        _with_barriers[function] = any(name.startswith("syncthreads") for name in names) or any(
            isinstance(value, FakeCUDAKernel) and _has_barriers(value.fn) for value in called
        )
    return _with_barriers[function]


def _uses_cuda(function):
    if function not in _using_cuda:
        values = [function.__globals__.get(name) for name in function.__code__.co_names]
        _using_cuda[function] = any(value is cuda or isinstance(value, simulator.FakeCUDAModule) for value in values)
    return _using_cuda[function]
