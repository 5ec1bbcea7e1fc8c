"""What is in the pictures: the cells of a mask, the boxes and arrows of a graph."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import sccengine.functional as F
from sccengine import ChannelWindows, Parameter, Tensor, drawing
from sccengine.autograd import recorded


def _graph():
    x = Tensor(np.ones((2, 4, 3, 3), np.float32))
    weight, bias = Parameter(np.ones((4, 2), np.float32)), Parameter(np.zeros(4, np.float32))
    hidden = F.relu(F.scc(x, weight, bias, groups=2, overlap=0.5))
    loss = F.cross_entropy(F.global_avg_pool2d(F.add(F.relu(hidden), hidden)), Tensor(np.array([1, 3])))
    return loss, {"x": x, "weight": weight}


def _texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_windows_have_a_cell_for_every_channel_read():
    windows = ChannelWindows.sliding(6, 5, groups=2, overlap=0.5)  # K = 3, S = 2, D = 3
    axes = Figure().subplots()
    drawing.draw_windows(axes, windows)
    cells = np.asarray(axes.collections[0].get_array()).reshape(5, 6)
    np.testing.assert_array_equal(cells > 0, windows.mask())
    np.testing.assert_array_equal(cells[2], [2, 0, 0, 0, 1, 1])  # channels 4 and 5, then 0 round the end
    np.testing.assert_array_equal(cells[3], [3, 3, 3, 0, 0, 0])  # as filter 0
    colours = axes.collections[0].get_cmap()(np.arange(5))[:, :3]
    for value, colour in zip((1, 2, 3), drawing.WINDOW_COLOURS.values()):
        assert tuple(colours[value]) == pytest.approx(to_rgb(colour))


def test_a_graph_has_a_box_for_every_operation_and_leaf_and_an_arrow_for_every_input():
    loss, names = _graph()
    figure = drawing.draw_graph(loss, names)
    texts = _texts(figure)
    operations = ["Contraction", "ReLU", "ReLU", "Add", "GlobalAvgPool2d", "CrossEntropy"]
    leaves = ["x", "weight", "parameter"]
    assert sorted(text for text in texts if text in {*operations, *leaves}) == sorted(operations + leaves)
    assert len(figure.axes[0].patches) == len(operations) + len(leaves)
    assert texts.count("") == 3 + 1 + 1 + 2 + 1 + 1
    assert "2 x 4 x 3 x 3\nkeeps nothing" in texts and any(text.startswith("one number\nkeeps") for text in texts)


def test_boxes_do_not_cover_each_other():
    loss, names = _graph()
    boxes = [patch.get_window_extent() for patch in drawing.draw_graph(loss, names).axes[0].patches]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_leaf_or_a_freed_graph_has_no_picture():
    with pytest.raises(ValueError, match="no graph stands behind this tensor"):
        drawing.draw_graph(Tensor(1.0))
    loss, _ = _graph()
    loss.backward()
    with pytest.raises(ValueError, match="backward has freed it"):
        drawing.draw_graph(loss)


def test_recorded_gives_the_order_of_the_forward_pass():
    loss, names = _graph()
    nodes = recorded(loss)
    assert [node.name for node in nodes] == [*("Contraction", "ReLU", "ReLU", "Add", "GlobalAvgPool2d", "CrossEntropy")]
    assert nodes[3].inputs[1].creator is nodes[1]
    assert recorded(names["x"]) == ()
