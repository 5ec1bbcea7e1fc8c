"""Other ways to compute what the engine computes. Optional: a benchmark runs without them and says so."""

import ctypes
import importlib
import sys

from sccengine.bench import catalog
from sccengine.cli.main import run


def load(name):
    """(module, None) of ``peers.<name>``, or (None, why it is absent)."""
    try:
        return importlib.import_module(f"peers.{name}"), None
    except ImportError as error:
        return None, f"the {name} peers are absent: {error} (pip install 'sccengine[test-torch]')"


def main(benchmark, candidates):
    """``sccengine bench BENCHMARK`` with this process's arguments and PyTorch as a rival; the exit code.

    candidates   (peers.pytorch, axes, device) -> list of Candidates
    """
    _keep_freed_memory()
    pytorch, absent = load("pytorch")
    if absent:
        print(absent)
    else:
        threads = pytorch.torch.set_num_threads
        catalog.add_peers(benchmark, lambda axes, device: candidates(pytorch, axes, device), threads)
    return run(["bench", benchmark, *sys.argv[1:]])


def _keep_freed_memory():
    """Have the C library keep what is freed, where it is glibc: PyTorch's arrays in host memory come from there.

    The engine keeps its own. PyTorch, evaluating VGG16, else takes twice as long: for the pages that every call returns
    to the system and faults in again.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        trim_threshold, mmap_threshold = -1, -3  # malloc.h
        library.mallopt(mmap_threshold, 2**30)
        library.mallopt(trim_threshold, 2**31 - 1)
