"""Which variant a contraction is computed by on which GPU, with the tiles of a GPU: the simulator's are other ones."""

import numpy as np
import pytest

from sccengine.tuning import LAUNCHERS
from sccengine.windows import ChannelWindows

scc = pytest.importorskip("sccengine.kernels.cuda.scc")
LARGE = ChannelWindows.sliding(512, 512, 2, 0.5), 8192
SMALL = ChannelWindows.dense(1024, 10), 128


def chosen(problem, capability, precision, monkeypatch, launchers=LAUNCHERS):
    """{variant's family} of all passes of a problem, (windows, columns)."""
    windows, columns = problem
    monkeypatch.setattr(scc.launch, "capability", lambda like: capability)
    like = np.empty((1, columns), np.float32)
    return {scc.choose(launcher, windows, like, precision).partition("_")[0] for launcher in launchers}


@pytest.mark.parametrize("capability", scc.FAST_TF32)
def test_float32_is_made_of_three_products_where_that_is_faster(capability, monkeypatch):
    assert chosen(LARGE, capability, "highest", monkeypatch) == {"tf32x3"}


@pytest.mark.parametrize("capability", [(7, 5), (8, 6), (8, 9), (12, 0)])
def test_and_of_one_elsewhere(capability, monkeypatch):
    assert chosen(LARGE, capability, "highest", monkeypatch) == {"register"}


def test_rounding_needs_permission_and_the_unit_for_it(monkeypatch):
    for precision, family in (("high", "tf32"), ("medium", "bf16")):
        assert chosen(LARGE, (8, 6), precision, monkeypatch) == {family}
        assert chosen(LARGE, (7, 5), precision, monkeypatch) == {"register"}


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_a_small_problem_is_cut_up(precision, monkeypatch):
    assert chosen(SMALL, (9, 0), precision, monkeypatch, ("forward",)) == {"register"}
