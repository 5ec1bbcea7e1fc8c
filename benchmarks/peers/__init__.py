"""Other ways to compute what the engine computes. Optional: a benchmark runs without them and says so."""

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
    pytorch, absent = load("pytorch")
    if absent:
        print(absent)
    else:
        threads = pytorch.torch.set_num_threads
        catalog.add_peers(benchmark, lambda axes, device: candidates(pytorch, axes, device), threads)
    return run(["bench", benchmark, *sys.argv[1:]])
