"""Where kernels are launched on device "simulator", their PTX is run, with the tiles that a GPU gets."""

import pytest

from tests.compile.needs import need_compiler


@pytest.fixture(autouse=True)
def emulated(monkeypatch):
    need_compiler()
    from sccengine import backend
    from sccengine.kernels.cuda import launch
    from tests.ptx import emulator

    monkeypatch.setattr(backend, "_simulating", lambda: True)
    monkeypatch.setattr(launch, "_device_launch", emulator.launch_ptx)
