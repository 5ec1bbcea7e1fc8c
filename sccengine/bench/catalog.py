"""The benchmarks by name, and what scripts add to them: peers, and benchmarks of their own."""

from __future__ import annotations

import importlib

NAMES = ("scc", "scc_layers", "depthwise", "conv2d", "batch_norm", "train_step", "inference")

_added = {}
_peers = {}


def names():
    """All that can be asked for."""
    return (*NAMES, *_added)


def load(name):
    """The Benchmark called ``name``; that of NAMES is in the file of its name."""
    return _added[name] if name in _added else importlib.import_module(f"sccengine.bench.{name}").BENCHMARK


def add(benchmark):
    """Make a script's own Benchmark known to the command line."""
    _added[benchmark.name] = benchmark


def add_peers(name, candidates, set_threads):
    """Let others compete in a benchmark: candidates (axes, device) -> list of Candidates; set_threads (count)."""
    _peers[name] = (candidates, set_threads)


def peers_of(name):
    """(candidates, set_threads) that were added to a benchmark, else (None, None)."""
    return _peers.get(name, (None, None))
