"""Runs on an NVIDIA GPU; skipped without one, unless SCCENGINE_REQUIRE_GPU=1, which makes that a failure."""

import os
from pathlib import Path

import pytest

from sccengine import backend


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(autouse=True)
def gpu():
    problem = backend.cuda_problem()
    if problem and os.environ.get("SCCENGINE_REQUIRE_GPU") == "1":
        pytest.fail(problem)
    if problem:
        pytest.skip(problem)
