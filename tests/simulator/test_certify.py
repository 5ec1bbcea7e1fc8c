"""The CUDA kernels of the contraction, asked in the simulator which triples (filter, tap, channel) they touch."""

import numpy as np
import pytest

from sccengine.certify import definition, probes
from sccengine.kernels.cuda import scc as kernels
from sccengine.windows import ChannelWindows

SETTINGS = (6, 5, 3, 0.5)  # K 2, S 1
PROBES = (probes.forward_triples, probes.input_triples, probes.weight_triples)


@pytest.mark.parametrize("variant", kernels.VARIANTS)
def test_every_variant_touches_what_the_definition_says(variant, monkeypatch):
    monkeypatch.setattr(probes, "_DRAWS", 1)
    monkeypatch.setattr(probes, "_COLUMNS", 5)
    table = definition.sliding(*SETTINGS)
    run = probes.Contraction(
        ChannelWindows.sliding(*SETTINGS), variant, kernels.VARIANTS[variant].dtypes[0], "simulator"
    )
    for probe in PROBES:
        assert np.array_equal(probe(run), definition.codes(table, SETTINGS[0]))
    assert probes.exact_results(run, table) is None


def test_a_tap_that_is_left_out_is_seen(monkeypatch):
    right = kernels._LAUNCHERS["tiles"]

    def without_it(x, weight, bias, y, windows):
        right.forward(x, weight, bias, y, windows)
        y[4] -= weight[4, 1] * x[5]

    monkeypatch.setitem(kernels._LAUNCHERS, "tiles", right._replace(forward=without_it))
    run = probes.Contraction(ChannelWindows.sliding(*SETTINGS), "tiles", "float32", "simulator")
    wanted = definition.codes(definition.sliding(*SETTINGS), SETTINGS[0])
    found = probes.forward_triples(run)
    assert definition.first_difference(found, wanted, 2, 6) == "does not touch (filter 4, tap 1, channel 5)"
