"""training.comparison on two narrow variants: what is trained, what is repeated, what fails, what is written."""

import csv
import json
import math
import re
import statistics

import numpy as np
import pytest

from sccengine.training import NonFiniteLossError, RunDirectoryError, job
from sccengine.training.comparison import Comparison, Variant, variants_of
from sccengine.training.comparison_plots import draw_learning, draw_tradeoff
from sccengine.training.comparison_report import COLUMNS, csv_text, markdown, summary_rows
from sccengine.training.history import read_history
from sccengine.training.step_costs import measure_steps

OPTIONS = {
    "preset": None,
    "model": "dscnet",
    "width": 0.25,
    "stem": "cifar",
    "dataset": "digits",
    "augment": False,
    "batch_size": 256,
    "optimizer": "sgd",
    "lr": 0.1,
    "nesterov": True,
    "schedule": "cosine",
    "weight_decay": 0.0,
    "decay": "weights",
    "label_smoothing": 0.0,
}
VARIANTS = [Variant("standard"), Variant("dw+scc", 2, 0.5)]


def comparison(seeds=(0, 1), variants=VARIANTS, epochs=1, **options):
    return Comparison({**OPTIONS, **options}, epochs, variants, list(seeds), device="cpu")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """(folder, outcome) of two variants with two seeds."""
    folder = tmp_path_factory.mktemp("compare") / "a"
    return folder, comparison().run(folder, rounds=2)


def weights(folder):
    return {path.parent.name: path.read_bytes() for path in folder.glob("cells/*/last.safetensors")}


def test_variants_have_the_settings_that_their_schemes_use():
    names = [str(v) for v in variants_of(["dw+pw", "dw+gpw", "dw+scc", "dw+pw"], [2, 4], [0.25, 0.5])]
    assert names == [
        "dw+pw",
        "dw+gpw (2)",
        "dw+gpw (4)",
        "dw+scc (2, 0.25)",
        "dw+scc (2, 0.5)",
        "dw+scc (4, 0.25)",
        "dw+scc (4, 0.5)",
    ]
    assert len({v.slug for v in variants_of(["dw+gpw", "dw+gpw+shuffle", "dw+scc"], [2, 4], [0.25, 0.5])}) == 8


def test_every_cell_is_a_run_and_every_figure_is_its(compared):
    folder, outcome = compared
    assert [(cell["variant"], cell["seed"]) for cell in outcome["cells"]] == [
        ("standard", 0),
        ("dw+scc (2, 0.5)", 0),
        ("standard", 1),
        ("dw+scc (2, 0.5)", 1),
    ]
    rows = summary_rows(outcome)
    for row, slug in zip(rows, ("standard", "dw+scc-cg2-co0.5")):
        last = [
            read_history(folder / f"cells/dscnet-w0.25-{slug}-digits-seed{seed}/metrics.jsonl")[-1]["test_accuracy"]
            for seed in (0, 1)
        ]
        assert row["accuracy_mean"] == pytest.approx(sum(last) / 2)
        assert row["accuracy_sd"] == pytest.approx(abs(last[0] - last[1]) / math.sqrt(2))
        assert row["seeds"] == 2 and row["failed"] == 0
    # 8 channels: the stem, then 8 -> 8, 8 -> 16, 16 -> 32 on 8x8, 4x4, 2x2 pixels, and the linear layer.
    convolutions = 9 * 8 * 64 + 9 * (8 * 8 * 64 + 8 * 16 * 16 + 16 * 32 * 4)
    assert rows[0]["macs"] == convolutions + 320
    separable = 9 * (8 * 64 + 8 * 16 + 16 * 4) + (8 * 8 * 64 + 8 * 16 * 16 + 16 * 32 * 4) // 2
    assert rows[1]["macs"] == 9 * 8 * 64 + separable + 320
    assert rows[1]["macs_percent"] == pytest.approx(100 * rows[1]["macs"] / rows[0]["macs"])


def test_the_files_agree(compared):
    folder, outcome = compared
    saved = json.loads((folder / "compare.json").read_text())
    assert saved["summary"] == summary_rows(outcome) == summary_rows(saved)
    assert saved["settings"]["seeds"] == [0, 1] and {"processor", "threads"} <= set(saved["machine"])
    with open(folder / "compare.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    table = [line for line in (folder / "compare.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(lines) == len(table) == 2
    for row, line, text in zip(saved["summary"], lines, table):
        assert list(line) == list(COLUMNS)
        assert {key: "" if row[key] is None else str(row[key]) for key in COLUMNS} == line
        cells = [cell.strip() for cell in text.strip("|").split("|")]
        assert cells[0] == row["variant"] and cells[1] == f"{row['params']:,}" and cells[3] == f"{row['macs']:,}"
        assert cells[6] == f"{100 * row['accuracy_mean']:.2f} ± {100 * row['accuracy_sd']:.2f}"
        assert cells[8] == f"{row['step_ms']:.2f}" and cells[10] == f"{row['peak_mib']:.1f}"


def test_the_pictures_are_not_blank(compared):
    from matplotlib.image import imread

    folder, _ = compared
    for name in ("compare.png", "curves.png"):
        image = imread(folder / name)[..., :3]
        assert min(image.shape[:2]) > 400
        assert len(np.unique(image @ [1, 256, 65536])) > 50


def test_pictures_show_each_variant_where_it_belongs(compared):
    rows = summary_rows(compared[1])
    left, right = draw_tradeoff(rows).axes
    for axes, quantity in ((left, "params"), (right, "macs")):
        for row, bar in zip(rows, axes.containers):
            assert bar.get_label() == row["variant"]
            (x,), (y,) = bar.lines[0].get_data()
            assert x == pytest.approx(row[quantity]) and y == pytest.approx(100 * row["accuracy_mean"])
    curve = draw_learning([("a", [0.5, 0.9]), ("a", [0.7, 0.7]), ("b", [0.1, 0.2])]).axes[0].lines[0]
    assert curve.get_ydata() == pytest.approx([40, 20])


def test_finished_cells_are_not_repeated_and_seeds_can_be_added(compared, tmp_path, monkeypatch):
    folder, _ = compared
    before = weights(folder)
    trained = []

    def build(options, *others, **settings):
        trained.append((options["scheme"], options["seed"]))
        return build_trainer(options, *others, **settings)

    build_trainer = job.build_trainer
    monkeypatch.setattr(job, "build_trainer", build)
    comparison().run(folder, resume=True)
    assert trained == []
    outcome = comparison(seeds=[2], variants=VARIANTS[:1]).run(folder, resume=True)
    assert trained == [("standard", 2), ("dw+scc", 2)]
    assert [cell["seed"] for cell in outcome["cells"]] == [0, 0, 1, 1, 2, 2]
    assert before.items() <= weights(folder).items()
    # For the other tests of this module.
    (folder / "settings.json").write_text(json.dumps(comparison()._settings()))


def test_changed_settings_are_refused_by_name(compared):
    folder, _ = compared
    before = (folder / "compare.json").read_text()
    with pytest.raises(RunDirectoryError, match="already holds a comparison: resume it"):
        comparison().run(folder)
    with pytest.raises(RunDirectoryError, match=r"options.lr is 0.1 in .*settings.json and 0.2 now"):
        comparison(lr=0.2).run(folder, resume=True)
    with pytest.raises(RunDirectoryError, match="epochs is 1 in .* and 2 now"):
        comparison(epochs=2).run(folder, resume=True)
    assert (folder / "compare.json").read_text() == before


def test_the_folder_of_a_run_is_refused_and_left_alone(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RunDirectoryError, match="holds a run: choose another folder for a comparison"):
        comparison().run(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} - {"run.lock"} == {"config.json"}


def test_a_cell_that_fails_is_reported_and_the_others_go_on(tmp_path, monkeypatch):
    build_trainer = job.build_trainer

    def build(options, *others, **settings):
        trainer = build_trainer(options, *others, **settings)
        if options["scheme"] == "standard":
            trainer.model.head.weight.data[:] = np.inf
        return trainer

    monkeypatch.setattr(job, "build_trainer", build)
    with np.errstate(all="ignore"):
        outcome = comparison(seeds=[0]).run(tmp_path, rounds=0)
    failed, finished = outcome["cells"]
    assert failed["status"] == "failed" and finished["status"] == "finished"
    assert failed["error"].startswith(NonFiniteLossError.__name__)
    text = markdown(outcome)
    assert "| 0 (1 failed) | - |" in text and f"standard, seed 0: failed: {failed['error']}" in text
    first = csv_text(outcome).splitlines()[1].split(",")
    assert first[COLUMNS.index("failed")] == "1" and first[COLUMNS.index("accuracy_mean")] == ""
    assert (tmp_path / "compare.png").exists()
    # Tried again, and well now.
    monkeypatch.setattr(job, "build_trainer", build_trainer)
    for path in tmp_path.glob("cells/*standard*/checkpoints/*"):
        path.unlink()
    again = comparison(seeds=[0]).run(tmp_path, resume=True, rounds=0)
    assert [cell["status"] for cell in again["cells"]] == ["finished", "finished"]


def test_a_variant_that_cannot_be_built_is_refused_before_anything_is_trained():
    with pytest.raises(ValueError, match="groups"):
        comparison(variants=[Variant("dw+gpw", 3)])


class Counting:
    """A clock whose steps take as long as their number says."""

    def __init__(self):
        self.time, self.calls = 0.0, 0

    def __call__(self):
        self.calls += 1
        self.time += self.calls if self.calls % 2 == 0 else 0
        return self.time


def test_steps_are_timed_in_turns():
    pair = comparison()
    trainers = {str(v): job.build_trainer(pair.cell_options(v, 0), 1, None, "cpu", progress="quiet") for v in VARIANTS}
    steps = measure_steps(trainers, 2, clock=Counting())
    # Two rounds of two variants, twice; the order moves on by one: 2 4 | 8 6 -> first 2 8, second 4 6, and so on.
    assert steps["costs"]["standard"]["passes"] == [5.0, 13.0]
    assert steps["costs"]["dw+scc (2, 0.5)"]["passes"] == [5.0, 13.0]
    assert steps["costs"]["standard"]["p50"] == statistics.median([2, 8, 10, 16])
    assert steps["batch"] == 256 and steps["rounds"] == 4 and steps["device"] == "cpu"
    for cost in steps["costs"].values():
        # At least the batch's first activations (8 channels of 8x8, float32), before and after batch norm.
        assert 2 * 8 * 64 * 256 * 4 < cost["bytes"] < 2**25


def test_names_are_safe_in_paths():
    pair = comparison()
    pair.options["dataset"] = "npz:/some/where.npz"
    assert re.fullmatch(r"[\w.+-]+", pair.name(VARIANTS[1], 3))
