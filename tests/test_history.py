"""The history: rows in memory and in the file, restored after a crash."""

import json

import pytest

from sccengine.training import RunDirectoryError, read_history
from sccengine.training.history import FIELDS, History


def row(epoch, accuracy=0.5, loss=1.0):
    return dict(zip(FIELDS, (epoch, 10 * epoch, 2.0, 0.4, loss, accuracy, 0.1)))


def test_rows_are_lines_and_come_back(tmp_path):
    history = History(tmp_path / "metrics.jsonl")
    for epoch in (1, 2, 3):
        history.append(row(epoch))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == history.rows
    again = read_history(tmp_path / "metrics.jsonl")
    assert again.rows == history.rows and again["epoch"] == [1, 2, 3] and again[-1]["step"] == 30
    assert len(again) == 3 and [r["epoch"] for r in again] == [1, 2, 3]


def test_the_best_is_the_most_accurate_and_of_equals_the_one_of_least_loss():
    history = History()
    assert history.best() is None
    for r in (row(1, 0.5), row(2, 0.9, 0.3), row(3, 0.9, 0.2), row(4, 0.9, 0.2), row(5, 0.8, 0.1)):
        history.append(r)
    assert history.best()["epoch"] == 3
    assert "epoch 3" in repr(history)


def test_rows_without_a_test_set_have_no_best():
    history = History()
    history.append(row(1, None, None))
    assert history.best() is None


def test_restoring_drops_later_rows_and_a_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    history = History(path)
    for epoch in (1, 2, 3):
        history.append(row(epoch))
    path.write_text(path.read_text() + '{"epoch": 4, "st')
    again = History(path)
    again.restore([row(1), row(2)])
    again.append(row(3, 0.7))
    assert [json.loads(line) for line in path.read_text().splitlines()] == [row(1), row(2), row(3, 0.7)]


def test_a_torn_last_line_is_left_out_and_another_bad_line_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(row(1)) + '\n{"epoch": 2, "s')
    assert read_history(path).rows == [row(1)]
    path.write_text('{"epoch": 1}\n' + json.dumps(row(2)) + "\n")
    with pytest.raises(RunDirectoryError, match="metrics.jsonl, line 1: expected an object with epoch, step"):
        read_history(path)


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OSError, match="cannot write .*metrics.jsonl"):
        History(tmp_path / "absent" / "metrics.jsonl").append(row(1))
