"""Pictures: drawn for short, long and partial histories, with the right numbers in them, and without pyplot."""

import subprocess
import sys

import numpy as np
import pytest

from sccengine.training.history import FIELDS, History
from sccengine.training.plots import draw_confusion, draw_curves, save_figure


def history(epochs, tested=True):
    result = History()
    for e in range(1, epochs + 1):
        test = (1.0 / e, 1 - 0.5 / e) if tested else (None, None)
        result.append(dict(zip(FIELDS, (e, 9 * e, 2.0 / e, 1 - 0.7 / e, *test, 0.1))))
    return result


@pytest.mark.parametrize("epochs", [1, 2, 40])
@pytest.mark.parametrize("tested", [True, False])
def test_curves_show_losses_and_errors(tmp_path, epochs, tested):
    rows = history(epochs, tested)
    figure = draw_curves(rows, "a title")
    loss, error = figure.axes
    lines = {line.get_label(): line for line in loss.get_lines()}
    assert set(lines) == ({"train", "test"} if tested else {"train"})
    np.testing.assert_array_equal(lines["train"].get_ydata(), rows["train_loss"])
    np.testing.assert_allclose(error.get_lines()[0].get_ydata(), [70 / e for e in rows["epoch"]])
    if tested:
        assert f"epoch {epochs}" in error.get_title(loc="right")
    save_figure(figure, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_confusion_writes_numbers_where_there_are_any(tmp_path):
    matrix = np.array([[5, 0, 1], [0, 0, 0], [0, 12, 30]])
    figure = draw_confusion(matrix, ["ant", "bee", "a long name"])
    axes = figure.axes[0]
    texts = {tuple(map(int, text.get_position())): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "5", (2, 0): "1", (1, 2): "12", (2, 2): "30"}  # x is the predicted class
    assert axes.get_title() == "35 of 48 right"
    save_figure(figure, tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").stat().st_size > 1000


def test_a_hundred_classes_fit(tmp_path):
    figure = draw_confusion(np.eye(100, dtype=int), [str(i) for i in range(100)])
    assert not figure.axes[0].texts
    save_figure(figure, tmp_path / "confusion.png")


def test_drawing_asks_for_no_window_system(tmp_path):
    program = (
        "import sys; import numpy as np; from sccengine.training.plots import draw_confusion, save_figure;"
        f"save_figure(draw_confusion(np.eye(2, dtype=int), 'ab'), {str(tmp_path / 'a.png')!r});"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
