"""What compiling CUDA kernels without a GPU needs."""

import importlib.util
import os
from functools import cache

import pytest


@cache
def missing():
    """What stands in the way of compiling here, as one sentence; None if nothing does."""
    if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
        return "Numba simulates CUDA in this process: run these tests without NUMBA_ENABLE_CUDASIM"
    if importlib.util.find_spec("numba_cuda") is None:
        return 'numba-cuda is not installed: pip install "sccengine[test-cuda]"'
    from tests.compile.compiler import find_tool

    absent = [name for name in ("ptxas", "cuobjdump", "nvdisasm") if find_tool(name) is None]
    return f'{" and ".join(absent)} not installed: pip install "sccengine[test-cuda]"' if absent else None


def need_compiler():
    """Skips the test where kernels cannot be compiled; with SCCENGINE_REQUIRE_COMPILE=1 it fails instead."""
    if problem := missing():
        (pytest.fail if os.environ.get("SCCENGINE_REQUIRE_COMPILE") == "1" else pytest.skip)(problem)
