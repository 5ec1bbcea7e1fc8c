"""Summaries: counts by the closed formulas, layers in the order of running, and a model left as it was."""

import json

import numpy as np
import pytest

from sccengine import models, nn


def test_counts_of_the_default_network_by_hand():
    result = models.summarize(models.build("dscnet", in_channels=1), (1, 8, 8))
    macs = {row.name: row.macs for row in result.rows if row.macs}
    assert macs == {
        "stem.conv": 32 * 9 * 64,
        "blocks.0.depthwise": 32 * 9 * 64,
        "blocks.0.mix": 32 * 16 * 64,
        "blocks.1.depthwise": 32 * 9 * 16,
        "blocks.1.mix": 64 * 16 * 16,
        "blocks.2.depthwise": 64 * 9 * 4,
        "blocks.2.mix": 128 * 32 * 4,
        "head": 128 * 10,
    }
    assert result.macs == sum(macs.values())
    assert result.params == sum(row.params for row in result.rows) == 9482


def test_windows_and_effective_overlap_are_shown_where_there_are_any():
    result = models.summarize(models.build("dscnet", groups=4, overlap=0.33), (3, 16, 16))
    row = next(row for row in result.rows if row.name == "blocks.2.mix")
    # C = 64, K = 16, floor(0.33 * 16) = 5, S = 11, D = 64 / gcd(64, 11)
    assert (row.type, row.width, row.shift, row.cycle) == ("SCC", 16, 11, 64)
    assert row.overlap == 5 / 16 and row.output_shape == (128, 4, 4)
    assert all(row.width is None for row in result.rows if row.type != "SCC")


def test_groups_are_shown_and_layers_narrower_than_them_noted():
    for scheme in ("dw+gpw", "dw+gpw+shuffle", "dw+scc"):
        result = models.summarize(models.build("mobilenet", scheme=scheme, groups=16, width=0.25), (3, 32, 32))
        rows = {row.name: row for row in result.rows}
        note = "8 input channels, fewer than groups=16: built with groups=1 (pointwise)"
        assert [row.note for row in result.rows if row.note] == [note]
        assert (rows["blocks.0.mix"].groups, rows["blocks.0.mix"].note) == (1, note)
        assert rows["blocks.0.mix"].params == 8 * 16 + 16
        assert (rows["stem.conv"].groups, rows["blocks.1.depthwise"].groups, rows["blocks.1.mix"].groups) == (1, 16, 16)
        assert rows["blocks.1.norm"].groups is None and rows["head"].groups is None
        assert str(result).splitlines()[-1] == f"blocks.0.mix: {note}"
        assert result.as_dict()["rows"][4]["note"] == note


def test_strided_grouped_and_linear_layers_follow_the_formulas():
    model = nn.Sequential(
        nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, groups=2),
        nn.ReLU(),
        nn.SCC(6, 5, groups=3, overlap=0, stride=2),
        nn.Flatten(),
        nn.Linear(5 * 2 * 3, 7),
    )
    result = models.summarize(model, (4, 6, 9))
    assert [row.output_shape for row in result.rows] == [(6, 3, 5), (6, 3, 5), (5, 2, 3), (30,), (7,)]
    assert [row.macs for row in result.rows] == [6 * 2 * 6 * 15, 0, 5 * 2 * 6, 0, 30 * 7]
    assert [row.params for row in result.rows] == [6 * 2 * 6 + 6, 0, 5 * 2 + 5, 0, 30 * 7 + 7]


def test_a_layer_used_twice_counts_its_parameters_once():
    layer = nn.Linear(3, 3)
    result = models.summarize(nn.Sequential(nn.Flatten(), layer, nn.ReLU(), layer), (3, 1, 1))
    assert [row.params for row in result.rows if row.type == "Linear"] == [12, 0]
    assert result.macs == 18 and result.params == 12


def test_the_model_is_left_as_it_was():
    model = models.build("dscnet", in_channels=1, width=0.25)
    model.blocks.eval()
    before = model.state_dict()
    models.summarize(model, (1, 8, 8))
    after = model.state_dict()
    assert all(np.array_equal(before[key], after[key]) for key in before)
    assert model.training and not model.blocks.training and model.blocks[0].training is False
    assert not any(module._forward_hooks for module in model.modules())


def test_it_prints_as_a_table_and_becomes_json():
    result = models.summarize(models.build("dscnet", in_channels=1), (1, 8, 8))
    lines = str(result).splitlines()
    assert lines[0].split() == "layer type output cg K S D overlap parameters MACs".split()
    assert "blocks.0.mix" in str(result) and "9,482 parameters" in lines[-1] and "221,184 FLOPs" in lines[-1]
    assert max(map(len, lines)) <= 100
    assert json.loads(json.dumps(result.as_dict()))["macs"] == result.macs


@pytest.mark.parametrize("shape", [(8, 8), (1, 1, 8, 8), (0, 8, 8)])
def test_other_input_shapes_are_errors(shape):
    with pytest.raises(ValueError, match="input_shape must be"):
        models.summarize(models.build("dscnet", in_channels=1), shape)


def test_the_wrong_number_of_channels_is_an_error_of_the_model():
    with pytest.raises(ValueError):
        models.summarize(models.build("dscnet", in_channels=3), (1, 8, 8))
