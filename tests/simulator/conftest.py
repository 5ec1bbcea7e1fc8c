"""Runs only in a process of its own whose Numba simulates CUDA: ``NUMBA_ENABLE_CUDASIM=1 pytest tests/simulator``."""

import os
from pathlib import Path

import pytest

SIMULATING = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"

if SIMULATING:
    from tests.simulator import block_manager

    block_manager.install()


def pytest_collection_modifyitems(items):
    if not SIMULATING:
        skip = pytest.mark.skip(reason="needs NUMBA_ENABLE_CUDASIM=1 in the environment, in a process of its own")
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(skip)
