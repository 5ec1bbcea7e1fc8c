"""A faster scheduler for the blocks of Numba's CUDA simulator; `install` puts it in place of Numba's own.

Numba's simulator starts an operating-system thread for every CUDA thread of every block and polls them in a loop
until all have come to a barrier. Here

* the threads of a kernel without barriers run one after another, as plain calls;
* the threads of a kernel with barriers are kept for the next block, and pass a baton round: each runs to its next
  barrier, then wakes its neighbour and sleeps. When the baton comes back, all others have come to the barrier too;
* the 32 threads of a warp pass the baton among themselves at a warp-wide operation (sccengine's simulator_twins.py),
  until the last has come and computed it for all;
* a device function that does not use ``cuda`` is called as it is, without swapping names in its module.

The order is always the same, whatever a GPU would do, so races.py watches every access for those that a GPU may order
in another way. All threads of a block must come to the same barriers.
"""

import itertools
import sys
import threading

from numba import cuda
from numba.cuda.simulator import kernel as simulator

from tests.simulator.races import watcher

Dim3 = simulator.Dim3
FakeCUDAKernel = simulator.FakeCUDAKernel

WARP = 32
_END = "the end of the kernel"

# Called as observer(kernel, arguments) at every launch.
observers = []

# Numba's own way of running a block: one operating-system thread for each CUDA thread, all at the same time.
numbas_run = simulator.BlockManager.run

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
        # The simulator's cuda.syncthreads stands between the kernel and this.
        caller = sys._getframe(2)
        self.block.barrier(self, (caller.f_code.co_filename, caller.f_lineno))
        self.barriers += 1
        watcher.resume(self)

    def meet_warp(self, row, function):
        result = self.block.warps[self.thread_id // WARP].meet(self, row, function)
        watcher.resume(self)
        return result


class Block:
    """One block with barriers: its workers in the order in which the baton goes round."""

    def __init__(self, function, args, workers):
        self.function = function
        self.args = args
        self.alive = list(workers)
        self.places = {}  # of the first barrier, the second, ...: in which line of which file
        self.warps = [Warp(self, workers[first : first + WARP]) for first in range(0, len(workers), WARP)]
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
                watcher.resume(worker)
                self.function(*self.args)
                self._come_to(_END, worker)
        except Abandoned:
            pass
        except Exception as error:
            self.error = _located(error, worker)
        following = self._after(worker)
        self.alive.remove(worker)
        (following.turn if self.alive else self.done).release()

    def barrier(self, worker, place):
        self._come_to(place, worker)
        following = self._after(worker)
        if following is not worker:
            following.turn.release()
            worker.turn.acquire()
        if self.error is not None:
            raise Abandoned

    def _come_to(self, place, worker):
        if self.places.setdefault(worker.barriers, place) != place:
            raise RuntimeError("not all threads of the block come to the same barrier")

    def _after(self, worker):
        return self.alive[(self.alive.index(worker) + 1) % len(self.alive)]


class Warp:
    """The meetings of the lanes of one warp. The baton stays among them until all have come."""

    def __init__(self, block, lanes):
        self.block = block
        self.lanes = lanes
        self.rows = {}
        self.meetings = 0

    def meet(self, worker, row, function):
        lane = worker.thread_id % WARP
        following = self.lanes[(lane + 1) % len(self.lanes)]
        if len(self.lanes) < WARP or following not in self.block.alive:
            raise RuntimeError("a warp-wide operation without all 32 lanes of the warp")
        if self.rows and function is not self.function:
            raise RuntimeError("the 32 lanes of a warp are at different warp-wide operations")
        meeting = self.meetings
        self.function = function
        self.rows[lane] = row
        if len(self.rows) == WARP:
            self.results = function([self.rows[each] for each in range(WARP)])
            self.rows = {}
            self.meetings += 1
        following.turn.release()
        worker.turn.acquire()
        if self.block.error is not None:
            raise Abandoned
        if self.meetings == meeting:
            raise RuntimeError(f"only {len(self.rows)} of 32 lanes came to a warp-wide operation")
        return self.results[lane]


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
            watcher.begin_launch()
        return numbas_call(self, *args)

    FakeCUDAKernel.__call__ = call


def _run_block(manager, grid_point, *args):
    shape = manager._block_dim
    # x counts fastest, as on a GPU.
    points = [Dim3(x, y, z) for z, y, x in itertools.product(*(range(n) for n in reversed(shape)))]
    args = watcher.begin_block(len(points), args)
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
            watcher.resume(thread)
            try:
                manager._f(*args)
            except Exception as error:
                raise _located(error, thread) from error


def _place(thread, grid_point, point, thread_id):
    thread.blockIdx = Dim3(*grid_point)
    thread.threadIdx = point
    thread.thread_id = thread_id
    thread.barriers = 0
    # Asynchronous copies under way belong to the thread that was here before.
    vars(thread).pop("copies", None)


def _located(error, thread):
    where = f"thread {tuple(thread.threadIdx)} of block {tuple(thread.blockIdx)}"
    located = RuntimeError(f"{type(error).__name__} in {where}: {error}")
    located.__cause__ = error
    return located


def _has_barriers(function):
    """Whether the function, or one that it calls, waits for other threads: at a barrier or in a warp-wide operation."""
    if function not in _with_barriers:
        _with_barriers[function] = any(name.startswith("syncthreads") for name in function.__code__.co_names) or any(
            getattr(value, "warp_wide", False) or (isinstance(value, FakeCUDAKernel) and _has_barriers(value.fn))
            for value in _named(function)
        )
    return _with_barriers[function]


def _uses_cuda(function):
    if function not in _using_cuda:
        _using_cuda[function] = any(
            value is cuda or isinstance(value, simulator.FakeCUDAModule) for value in _named(function)
        )
    return _using_cuda[function]


def _named(function):
    """What the names in a function stand for: globals, and variables of an enclosing function."""
    yield from (function.__globals__.get(name) for name in function.__code__.co_names)
    yield from (cell.cell_contents for cell in function.__closure__ or ())
