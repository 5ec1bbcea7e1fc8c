"""The graph of a captured step: its launches, and memory from which nobody else is served, on each kind of device."""

from __future__ import annotations

import numpy as np

from sccengine import backend, memory
from sccengine.capture_launches import Launches


def graph_on(device):
    """An empty graph: ``record(run)`` keeps the launches of ``run()`` and gives its result, ``replay()`` repeats them.

    ``staging(size)`` makes an array of bytes outside the graph's memory; ``kernels`` notes launches on the CPU.
    """
    if device == "cpu":
        return _CpuGraph()
    return _SimulatedGraph() if device == "simulator" else _CudaGraph(device)


class _CpuGraph:
    """The launches of a step on the CPU, and memory from which nobody else is served."""

    def __init__(self):
        self.kernels = Launches()

    def staging(self, size):
        return np.empty(size, np.uint8)

    def record(self, run):
        memory.release()  # what the eager step left: the step's own memory takes its place
        with memory.pool_of_blocks():
            return run()

    def replay(self):
        self.kernels.replay()


class _SimulatedGraph:
    """The launches of a step in Numba's simulator."""

    kernels = None  # launches are noted where they reach the simulator

    def staging(self, size):
        return np.empty(size, np.uint8).view(backend.SimulatorArray)

    def record(self, run):
        from sccengine.kernels.cuda import launch

        with launch.recording() as self._launches:
            return run()

    def replay(self):
        from sccengine.kernels.cuda import launch

        launch.replay(self._launches)


class _CudaGraph:
    """A CUDA graph, and the memory of its arrays: a pool from which nobody else is served."""

    kernels = None  # launches are noted by the stream

    def __init__(self, device):
        import cupy

        self._cupy = cupy
        self._device = cupy.cuda.Device(int(device.partition(":")[2]))
        self._pool = cupy.cuda.MemoryPool()
        self._staging_pool = cupy.cuda.MemoryPool()

    def staging(self, size):
        with self._device, self._cupy.cuda.using_allocator(self._staging_pool.malloc):
            return self._cupy.empty(size, np.uint8)

    def record(self, run):
        cuda = self._cupy.cuda
        # On a stream of its own: what other libraries do on the current one must not become part of the graph.
        with self._device, cuda.using_allocator(self._pool.malloc), cuda.Stream(non_blocking=True) as stream:
            stream.begin_capture()
            try:
                result = run()
                self._graph = stream.end_capture()
            except BaseException as error:
                self._abandon(stream)
                if isinstance(error, (cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError)):
                    raise RuntimeError(
                        f"captured step: the step does something that a CUDA graph cannot hold ({error}); usually it "
                        "waits for the device or reads from it: let such work follow the call"
                    ) from error
                raise
        return result

    @staticmethod
    def _abandon(stream):
        """End a capture that failed, so that the thread can capture again."""
        try:
            stream.end_capture()
        except RuntimeError:
            pass  # the capture is invalid, or ended; the error that made it so is being raised

    def replay(self):
        with self._device:
            self._graph.launch()
