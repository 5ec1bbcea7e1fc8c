"""``sccengine tune``, with a clock that says what the test wants."""

import json
import re

import numpy as np
import pytest

from sccengine import ChannelWindows, get_matmul_precision, timings, tuning
from sccengine.cli.main import run

LAYER = ["tune", "--device", "cpu", "--shape", "2,16,12,3"]
CANDIDATES = ["direct_output_centric", "direct_input_centric", "tiles"]


@pytest.fixture(autouse=True)
def clock(monkeypatch, tmp_path):
    """direct_input_centric is twice as fast as the others; the names timed are in the list."""
    calls = []

    def clock(run):
        calls.append(run.args[0])
        return 1e-3 if run.args[0] == "direct_input_centric" else 2e-3

    monkeypatch.setattr(tuning, "store", lambda: timings.Store(tmp_path / "tuning"))
    monkeypatch.setattr(timings, "clock_for", lambda device: clock)
    tuning.set_mode("read")
    yield calls
    tuning.set_mode("read")


def chosen():
    """For the forward pass of LAYER."""
    windows = ChannelWindows.sliding(16, 12, 2, 0.5)
    return tuning.choose("scc", "forward", windows, np.empty((12, 18), np.float32), "highest")


def test_a_layer_is_timed_written_and_printed(capsys, clock):
    assert run([*LAYER, "--groups", "4", "--overlap", "0.25"]) == 0
    out, err = capsys.readouterr()
    assert "3 problems timed, 0 known before" in err
    lines = [line for line in out.splitlines() if line.startswith("scc")]
    assert [line.split(":")[0] for line in lines] == ["scc forward", "scc backward_input", "scc backward_weight"]
    for line in lines:
        assert "sliding 16 -> 12, K 4, S 3, up to 24 columns (odd), float32 highest" in line
        # 2 * 12 * 4 * 18 operations in 1 ms
        assert re.search(r"tiles +2\.0000 +direct_input_centric +1\.0000 +2\.00 +0\.0$", line)
    assert {len(record["seconds"]) for record in tuning.store().records()} == {3}
    assert set(clock) == set(CANDIDATES)


def test_what_is_known_is_not_timed_again_unless_asked(capsys, clock):
    assert run(LAYER) == 0
    count = len(clock)
    assert run(LAYER) == 0
    assert len(clock) == count and "0 problems timed, 3 known before" in capsys.readouterr().err
    assert run([*LAYER, "--again", "--passes", "forward"]) == 0
    assert len(clock) == count + count // 3 and "1 problems timed" in capsys.readouterr().err


def test_timings_are_used_afterwards():
    assert chosen() == "tiles"
    assert run(LAYER) == 0
    assert chosen() == "tiles", "a choice holds in its process"
    tuning.set_mode("read")
    assert chosen() == "direct_input_centric"


def test_the_contractions_of_a_model_are_found_by_one_step_of_it(capsys, clock):
    arguments = ["tune", "--device", "cpu", "--batch-size", "4", "--classes", "7", "--dry-run", "--precision", "high"]
    assert run(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "12 problems; nothing was timed or written" and not clock
    assert sum("dense 128 -> 7" in line for line in lines) == 3
    assert sum("sliding 64 -> 128, K 32, S 16" in line for line in lines) == 3
    assert all(line.endswith(": new; rule tiles; of " + ", ".join(CANDIDATES)) for line in lines[:-1])
    assert not tuning.store().folder.exists() and get_matmul_precision() == "highest"
    assert run(["tune", "--device", "cpu", "--batch-size", "4", "--scheme", "dw+gpw", "--dry-run"]) == 0
    assert "grouped 64 -> 128" in capsys.readouterr().out


def test_the_budget_ends_it_and_the_same_command_goes_on(capsys):
    assert run([*LAYER, "--seconds", "0.000001"]) == 0
    assert "1 problems timed, 0 known before" in (err := capsys.readouterr().err)
    assert "2 are missing, which the same command goes on with" in err
    assert run(LAYER) == 0
    assert "2 problems timed, 1 known before" in capsys.readouterr().err


def test_an_interrupt_keeps_what_was_timed(capsys, monkeypatch):
    search = tuning.Task.search

    def interrupted(task, seconds):
        if task.launcher == "backward_weight":
            raise KeyboardInterrupt
        return search(task, seconds)

    monkeypatch.setattr(tuning.Task, "search", interrupted)
    assert run(LAYER) == 130
    out, err = capsys.readouterr()
    assert "2 problems timed" in err and "1 are missing" in err and out.count("direct_input_centric") == 2
    assert len(tuning.store().records()) == 2


def test_a_variant_that_fails_is_shown_as_such(capsys, monkeypatch):
    def failing(run):
        raise RuntimeError("too much shared memory")

    monkeypatch.setattr(timings, "clock_for", lambda device: failing)
    assert run([*LAYER, "--passes", "forward"]) == 0
    assert "no variant works: direct_output_centric: RuntimeError: too much shared memory" in capsys.readouterr().out


def test_show_and_forget(capsys):
    assert run(["tune", "--show"]) == 0
    assert "nothing is known in" in capsys.readouterr().out
    run(LAYER)
    capsys.readouterr()
    assert run(["tune", "--show"]) == 0
    out = capsys.readouterr().out
    assert out.count("direct_input_centric") == 3 and "threads" in out
    assert run(["tune", "--show", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [set(record["seconds"]) for record in records] == [set(CANDIDATES)] * 3
    assert run(["tune", "--forget"]) == 0
    assert "3 problems forgotten" in capsys.readouterr().out and tuning.store().records() == []


def test_shipping_adds_what_is_clearly_better_and_takes_back_what_is_not(capsys, monkeypatch, tmp_path):
    table = tmp_path / "table.json"
    run(LAYER)
    assert run(["tune", "--device", "cpu", "--ship", str(table)]) == 0
    rows = json.loads(table.read_text())["rows"]
    assert [row["variant"] for row in rows] == ["direct_input_centric"] * 3 and {row["gain"] for row in rows} == {2.0}
    monkeypatch.setattr(tuning, "TABLE", table)
    tuning._table.cache_clear()
    tuning.store().forget()
    tuning.set_mode("read")
    try:
        assert chosen() == "direct_input_centric"
    finally:
        tuning._table.cache_clear()
    monkeypatch.setattr(timings, "clock_for", lambda device: lambda run: 1e-3)
    run([*LAYER, "--passes", "forward"])
    assert run(["tune", "--device", "cpu", "--ship", str(table)]) == 0
    assert len(json.loads(table.read_text())["rows"]) == 2


@pytest.mark.parametrize("content", [b"hello", b"[1]", b"{}", b'{"about": "", "rows": [1]}', b"\xff"])
def test_shipping_into_a_file_of_something_else_names_it_and_leaves_it_alone(capsys, tmp_path, content):
    (tmp_path / "text.txt").write_bytes(content)
    assert run(["tune", "--device", "cpu", "--ship", str(tmp_path / "text.txt")]) == 1
    error = capsys.readouterr().err
    assert "text.txt: expected a table that sccengine tune --ship wrote" in error and error.count("\n") == 1
    assert (tmp_path / "text.txt").read_bytes() == content


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (["--shape", "16,64"], ["--shape", "16,64", "16,64,128,32"]),
        (["--shape", "0,16,12,3"], ["0,16,12,3", "at least 1"]),
        (["--shape", "2,15,12,3"], ["groups=2 does not divide in_channels=15"]),
        (["--shape", "2,16,12,3", "--model", "vgg16"], ["--shape", "--model"]),
        (["--shape", "2,16,12,3", "--input", "1x8x8"], ["--shape", "--input"]),
        (["--passes", "forward,backwards"], ["backwards", "backward_input"]),
        (["--seconds", "0"], ["--seconds", "above 0"]),
        (["--seconds", "soon"], ["--seconds", "soon"]),
        (["--precision", "low"], ["--precision", "low", "highest"]),
        (["--model", "vgg16"], ["images must be at least 32 x 32"]),
        (["--groups", "5"], ["groups=5"]),
        (["--show", "--forget"], ["--show and --forget exclude each other"]),
        (["--device", "gpu"], ["gpu", "cuda"]),
    ],
)
def test_wrong_usage_is_one_line_that_says_why(capsys, arguments, parts):
    assert run(["tune", "--device", "cpu", *arguments] if "--device" not in arguments else ["tune", *arguments]) == 2
    err = capsys.readouterr().err
    assert all(part in err for part in parts) and err.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_timed(capsys, monkeypatch, tmp_path, clock):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(tuning, "store", lambda: timings.Store(tmp_path / "file" / "tuning"))
    assert run(LAYER) == 1
    err = capsys.readouterr().err
    assert "cannot be written" in err and "SCCENGINE_CACHE_DIR" in err and not clock


def test_doctor_names_mode_and_folder(capsys, tmp_path):
    assert run(["doctor", "--json"]) == 0
    report = {entry["what"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert report["tuning"]["state"] == "ok"
    assert report["tuning"]["detail"].startswith(f"mode read, 0 problems timed in {tmp_path}")
