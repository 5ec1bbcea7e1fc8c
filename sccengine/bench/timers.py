"""How one call is timed on each device, in seconds.

CPU   ``warm``: a call straight after untimed ones for WARM_UP seconds. ``cold``: the call after a buffer as large as
      the last-level cache was written. Before either the process rests a moment: OpenMP and BLAS workers spin for a
      while after a call, and would take the cores from the next competitor. It is the rest that makes a single untimed
      call too few: for some milliseconds after it clocks still rise, and threads and data are not yet where they will
      stay.
CUDA  ``warm`` and ``cold`` (the L2 flushed first): device time between two events. A kernel that only waits is queued
      ahead, long enough for the host to queue the whole call behind it, so gaps between launches do not count.
      ``host``: until the call returns, which is what launching costs; of short calls the mean of as many as follow each
      other in BURST seconds, as launches do in a training step. ``wall``: until the device has finished.
"""

from __future__ import annotations

import time

import numpy as np

from sccengine.bench.machine import last_level_cache_bytes

WARM_UP = 0.01  # seconds
BURST = 2e-4  # seconds: launches of 1 us and more are too few in it to fill the driver's queue of about a thousand


class CpuTimer:
    """Times calls on the CPU by ``clock``; ``rest`` is the pause in seconds before a competitor's turn."""

    modes = ("warm", "cold")

    def __init__(self, clock=time.perf_counter, rest=0.03):
        self.clock = clock
        self.rest = rest
        self._flush = None

    def sample(self, run, mode, calls):
        """Seconds of each of ``calls`` calls in one mode."""
        time.sleep(self.rest)
        if mode == "warm":
            self._warm_up(run)
            return [self._timed(run) for _ in range(calls)]
        return [self._timed(run) for _ in range(calls) if self._flushed()]

    def _warm_up(self, run):
        started = time.perf_counter()
        run()
        while time.perf_counter() - started < WARM_UP:
            run()

    def _flushed(self):
        if self._flush is None:
            self._flush = np.zeros(last_level_cache_bytes() // 8)
        self._flush += 1.0
        return True

    def _timed(self, run):
        started = self.clock()
        run()
        return self.clock() - started


class CudaTimer:
    """Times calls on CuPy's current stream; competitors must queue their work on the same (default) stream."""

    modes = ("warm", "cold", "host", "wall")
    _CLOCK = 2.0e9  # at least as fast as any GPU's clock, so that the waiting kernel waits too long, not too short

    def __init__(self):
        import cupy

        self.cupy = cupy
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        self._flush = cupy.zeros(max(2 * properties["l2CacheSize"], 2**26) // 4, cupy.int32)
        self._wait = cupy.ElementwiseKernel(
            "int64 cycles",
            "int64 done",
            "long long start = clock64(); while (clock64() - start < cycles) {} done = cycles;",
            "sccengine_benchmark_wait",
        )
        self._done = cupy.zeros(1, cupy.int64)

    def sample(self, run, mode, calls):
        """Seconds of each of ``calls`` calls in one mode."""
        run()
        self._synchronize()
        if mode == "host":
            return [self._host(run) for _ in range(calls)]
        if mode == "wall":
            return [self._wall(run) for _ in range(calls)]
        launch = min(self._host(run) for _ in range(3))
        return [self._device(run, launch, cold=mode == "cold") for _ in range(calls)]

    def in_a_row(self, run, calls):
        """Seconds of device time a call takes of ``calls`` that follow each other without a gap."""
        run()
        self._synchronize()
        return self._device(run, min(self._host(run) for _ in range(3)), cold=False, calls=calls)

    def _synchronize(self):
        self.cupy.cuda.get_current_stream().synchronize()

    def _host(self, run):
        seconds = self._until_returned(run, 1)
        calls = int(BURST / seconds)
        if calls > 1:
            seconds = self._until_returned(run, calls)
        self._synchronize()
        return seconds

    def _until_returned(self, run, calls):
        started = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - started) / calls

    def _wall(self, run):
        started = time.perf_counter()
        run()
        self._synchronize()
        return time.perf_counter() - started

    def _device(self, run, launch, cold, calls=1):
        first, last = self.cupy.cuda.Event(), self.cupy.cuda.Event()
        if cold:
            self._flush += 1
        self._wait(np.int64((2 * calls * launch + 50e-6) * self._CLOCK), self._done)
        first.record()
        for _ in range(calls):
            run()
        last.record()
        last.synchronize()
        return self.cupy.cuda.get_elapsed_time(first, last) / 1e3 / calls
