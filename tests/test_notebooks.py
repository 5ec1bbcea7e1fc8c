"""Every notebook runs from top to bottom, leaves what it promises, and is committed without outputs."""

import json
import os
import re
import shutil
import sys
import textwrap
from pathlib import Path

import pytest

import sccengine

NOTEBOOKS = sorted(Path(__file__).resolve().parents[1].glob("notebooks/*.ipynb"))
KERNEL = "running-python"
CELL_SECONDS = 400  # a first run compiles kernels, on a machine that may be busy

# What must hold in a notebook's own process once its last cell has run.
PROMISES = {
    "00_scc_in_one_page": """
        assert history.best()["test_accuracy"] > 0.95
        assert max(apart.values()) < 1e-5
    """,
    "01_kernel_ladder": """
        assert list(medians) == list(VARIANTS) and medians["tiles"] < medians["channel_stack"]
        assert all(row["floor"]["warm"] > 0 for row in sweep)
        assert set(simulated) == set(VARIANTS)
    """,
    "02_autograd_by_hand": """
        assert weight.numpy().tobytes() == as_float32(after).tobytes() != as_float32(w).tobytes()
        assert loss_at(float(rate)) < start
    """,
    "03_train_small_cnn": """
        assert 0 < history.best()["test_accuracy"] < 1 and outcome.accuracy > 0.95
        assert resumed.history[3]["step"] == victim.history[2]["step"] + 45 and len(victim.history) == 3
    """,
    "04_design_space": """
        assert len(after) == 18 and all(costs_of(trial.design)[0] == trial.values["params"] for trial in after.values())
        on_front = {trial.number for trial in study.front()}
        assert on_front == {number for *_, number in live.front()}
        for one in finished:
            beaten = any(
                two.values["accuracy"] > one.values["accuracy"] and two.values["params"] <= one.values["params"]
                for two in finished
            )
            assert not (beaten and one.number in on_front)
    """,
    "05_channel_mixing": """
        assert needed.tolist() == [[2, 2, 2, 3, 4], [2, 2, 3, 3, 5], [2, 2, 3, 4, 7], [2, 2, 3, 6, 85]]
        assert (views["dw + pw", 1].any(axis=1)).all()
    """,
    "06_cuda_graphs": """
        assert (eager.calls, captured.calls) == (4, 2) and len(reasons) == 4
        assert "has shape" in reasons[0] and "nesterov" in reasons[2] and "numpy()" in reasons[3]
        assert all(len(series) == len(sizes) for series in times.values())
        assert times["captured"][0] < times["launch by launch"][0]
    """,
}

pytestmark = pytest.mark.notebook
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """The name of a Jupyter kernel of the running Python, which imports the sccengine that this test imports.

    Whatever kernels, settings and start-up files the user has are out of sight, and all that Jupyter writes is
    in ``tmp_path``.
    """
    pytest.importorskip("ipykernel", reason='needs ipykernel: pip install "sccengine[test]"')
    folder = tmp_path / "jupyter" / "kernels" / KERNEL
    folder.mkdir(parents=True)
    search = [str(Path(sccengine.__file__).parents[1]), os.environ.get("PYTHONPATH")]
    specification = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": KERNEL,
        "language": "python",
        "env": {"PYTHONPATH": os.pathsep.join(filter(None, search))},
    }
    (folder / "kernel.json").write_text(json.dumps(specification), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    for variable in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    return KERNEL


def execute(path, kernel, folder, afterwards=""):
    """The notebook at ``path`` with its outputs, run on a copy in ``folder``; raises where a cell does.

    ``afterwards``: source of one more cell.
    """
    nbclient = pytest.importorskip("nbclient", reason='needs nbclient: pip install "sccengine[test]"')
    import nbformat

    folder.mkdir()
    notebook = nbformat.read(shutil.copy(path, folder), as_version=4)
    nbformat.validate(notebook)
    notebook.cells.append(nbformat.v4.new_code_cell(textwrap.dedent(afterwards)))
    resources = {"metadata": {"path": str(folder)}}
    client = nbclient.NotebookClient(
        notebook, timeout=CELL_SECONDS, startup_timeout=120, kernel_name=kernel, resources=resources
    )
    return client.execute()


def code_cells(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_notebooks_are_numbered_from_00():
    assert NOTEBOOKS, "no notebooks found"
    numbers = [re.fullmatch(r"(\d\d)_[a-z0-9_]+", path.stem) for path in NOTEBOOKS]
    assert all(numbers), f"a notebook is called NN_name: {[path.name for path in NOTEBOOKS]}"
    assert [int(number[1]) for number in numbers] == list(range(len(NOTEBOOKS)))
    assert list(PROMISES) == [path.stem for path in NOTEBOOKS]


@each_notebook
def test_a_notebook_is_committed_without_outputs(path):
    for number, cell in enumerate(code_cells(path), 1):
        left = {"outputs": cell["outputs"], "execution_count": cell["execution_count"]}
        assert left == {"outputs": [], "execution_count": None}, f"strip code cell {number} of {path.name}"
        assert "execution" not in cell["metadata"], f"code cell {number} of {path.name} holds the times of a run"


@pytest.mark.slow
@each_notebook
def test_a_notebook_runs_and_shows_its_pictures(path, kernel, tmp_path):
    before = path.read_bytes()
    executed = execute(path, kernel, tmp_path / "run", PROMISES[path.stem])
    shown = [output.data for cell in executed.cells for output in cell.get("outputs", ()) if "data" in output]
    figures = [data for data in shown if data.get("text/plain", "").startswith("<Figure")]
    assert all("image/png" in data for data in figures)
    lines = [line.rstrip("\n") for cell in code_cells(path) for line in cell["source"]]
    assert len(figures) >= lines.count("plt.show()")  # an indented one may depend on the machine
    assert path.read_bytes() == before
    assert os.listdir(tmp_path / "run") == [path.name], "a notebook leaves no files behind"


def test_a_failing_cell_fails_the_run(kernel, tmp_path):
    nbclient = pytest.importorskip("nbclient", reason='needs nbclient: pip install "sccengine[test]"')
    from nbformat import v4, write

    path = tmp_path / "wrong.ipynb"
    write(v4.new_notebook(cells=[v4.new_code_cell("import sccengine"), v4.new_code_cell("assert 1 == 2")]), path)
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="assert 1 == 2"):
        execute(path, kernel, tmp_path / "run")
