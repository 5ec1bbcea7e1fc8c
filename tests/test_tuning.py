"""Which variant is chosen: what has precedence over what, what is fixed for how long, and what a run keeps of it."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import sccengine.functional as F
from sccengine import ChannelWindows, Tensor, backend, timings, tuning
from sccengine.kernels.cache_folder import cache_root
from sccengine.kernels.cpu import scc as cpu
from tests.training_run import assert_same_weights, trainer

WINDOWS = ChannelWindows.sliding(16, 12, 2, 0.5)
LIKE = np.empty((12, 40), np.float32)
CLOCK_FOR = timings.clock_for
CANDIDATES = ["direct_output_centric", "direct_input_centric", "tiles"]


@pytest.fixture(autouse=True)
def store(monkeypatch, tmp_path):
    """An empty folder of timings, nothing chosen yet, and a clock that must not be read."""

    def no_clock(device):
        raise AssertionError("a timing was taken")

    monkeypatch.setattr(tuning, "store", lambda: timings.Store(tmp_path / "tuning"))
    monkeypatch.setattr(timings, "clock_for", no_clock)
    before = tuning.get_mode()
    tuning.set_mode("read")
    yield tuning.store()
    tuning._choices.pinned.clear()
    tuning.set_mode(before)


def choose(like=LIKE, launcher="forward", windows=WINDOWS, precision="highest"):
    return tuning.choose("scc", launcher, windows, like, precision)


def task(like=LIKE, launcher="forward", windows=WINDOWS, precision="highest"):
    with tuning.recording() as tasks:
        choose(like, launcher, windows, precision)
    return tasks[0]


def known(favourite, of=None, **changes):
    """A record of the problem in which `favourite` is twice as fast as the others."""
    of = of or task()
    return {
        "key": {**of.key, **changes},
        "rule": of.rule,
        "seconds": {name: [1.0 if name == favourite else 2.0] * 5 for name in CANDIDATES},
        "failed": {},
        "operations": of.operations,
        "date": "2026-01-31 10:15:00",
    }


def use_clock(monkeypatch, favourite, failing=()):
    """Timings in which `favourite` is the fastest; the number of calls timed is counted in the list returned."""
    calls = []

    def clock(run):
        calls.append(run.args[0])
        if run.args[0] in failing:
            raise RuntimeError("too much shared memory")
        return 1.0 if run.args[0] == favourite else 1.1

    monkeypatch.setattr(timings, "clock_for", lambda device: clock)
    return calls


def use_table(monkeypatch, variant):
    row = {json.dumps(tuning.family_key(task().key), sort_keys=True): variant}
    monkeypatch.setattr(tuning, "_table", lambda: row)


def test_timings_come_before_the_table_and_the_table_before_the_rule(monkeypatch, store):
    monkeypatch.setattr(tuning, "_table", dict)
    assert choose() == task().rule == cpu.DEFAULT
    use_table(monkeypatch, "direct_input_centric")
    tuning.set_mode("read")
    assert choose() == "direct_input_centric" and choose(launcher="backward_input") == cpu.DEFAULT
    store.save(known("direct_output_centric"))
    tuning.set_mode("read")
    assert choose() == "direct_output_centric"
    tuning.set_mode("off")
    assert choose() == cpu.DEFAULT


def test_a_choice_holds_and_costs_no_look_at_the_disk(monkeypatch, store):
    assert choose() == cpu.DEFAULT
    store.save(known("direct_output_centric"))
    monkeypatch.setattr(tuning, "Task", None)
    assert choose() == cpu.DEFAULT


@pytest.mark.parametrize(
    "changes",
    [
        {"versions": {"kernels": "older"}},
        {"device": {"family": "cpu", "name": "another", "threads": 1}},
        {"dtype": "float64"},
        {"precision": "high"},
        {"pass": "backward_input"},
    ],
)
def test_timings_of_something_else_do_not_count(store, changes):
    store.save(known("direct_output_centric", **changes))
    assert choose() == cpu.DEFAULT


def test_timings_belong_to_a_number_of_threads(monkeypatch, store):
    monkeypatch.setattr(backend, "num_threads", lambda: 7)
    store.save(known("direct_output_centric"))
    assert choose() == "direct_output_centric"
    monkeypatch.setattr(backend, "num_threads", lambda: 8)
    tuning.set_mode("read")
    assert choose() == cpu.DEFAULT


@pytest.mark.parametrize("one, other, same", [(40, 48, True), (40, 36, True), (40, 41, False), (40, 52, False)])
def test_similar_numbers_of_columns_share_timings(one, other, same):
    keys = [task(np.empty((12, columns), np.float32)) for columns in (one, other)]
    assert (keys[0].key == keys[1].key) is same and keys[0].name != keys[1].name


@pytest.mark.parametrize("columns, upto", [(1, 1), (2, 2), (3, 3), (5, 6), (7, 8), (1024, 1024), (1025, 1536)])
def test_sizes_are_rounded_up(columns, upto):
    assert tuning.size_class(columns) == [upto, columns % 4 == 0]


def test_problems_that_differ_in_their_windows_only():
    sliding, grouped = ChannelWindows.sliding(8, 8, 4, 0), ChannelWindows.grouped(8, 8, 4)
    assert (sliding.width, sliding.shift, sliding.cycle) == (grouped.width, grouped.shift, grouped.cycle)
    names = {task(windows=w).name for w in (sliding, grouped, ChannelWindows.dense(8, 8))}
    assert len(names) == 3


def test_candidates_have_the_same_bits_always_and_compute_the_dtype(monkeypatch):
    assert task().candidates == CANDIDATES == [name for name, v in cpu.VARIANTS.items() if v.deterministic]
    only = cpu.VARIANTS["tiles"].__class__("half", "", dtypes=("float32",), precision="high")
    monkeypatch.setitem(cpu.VARIANTS, "half", only)
    assert "half" not in task().candidates and "half" in task(precision="medium").candidates
    assert "half" not in task(LIKE.astype(np.float64), precision="high").candidates
    assert task(precision="medium").key["precision"] == "high", "what the permission is used for"


def test_every_pass_of_an_operator_asks_and_a_forced_variant_does_not(monkeypatch):
    def step(**settings):
        x = Tensor(np.ones((2, 16, 3, 3), np.float32), requires_grad=True)
        weight = Tensor(np.ones((12, 8), np.float32), requires_grad=True)
        y = F.scc(x, weight, groups=2, overlap=0.5, **settings)
        y.backward(np.ones(y.shape, np.float32))

    with tuning.recording() as tasks:
        step()
        step()
        F.linear(Tensor(np.ones((2, 16), np.float32)), Tensor(np.ones((4, 16), np.float32)))
        F.conv2d(Tensor(np.ones((2, 16, 3, 3), np.float32)), Tensor(np.ones((4, 8, 1, 1), np.float32)), groups=2)
    asked = [(t.launcher, t.key["problem"]["windows"]) for t in tasks]
    assert asked == [
        ("forward", "sliding"),
        ("backward_input", "sliding"),
        ("backward_weight", "sliding"),
        ("forward", "dense"),
        ("forward", "grouped"),
    ]
    assert tasks[0].operations == 2 * 12 * 8 * 18
    with tuning.recording() as tasks:
        step(variant="tiles")
    assert tasks == []


def test_what_is_chosen_is_what_computes(monkeypatch, store):
    store.save(known("direct_input_centric", task(np.empty((12, 18), np.float32))))
    used = []
    monkeypatch.setattr(cpu, "forward", lambda *args: used.append(args[5]))
    x, weight = np.ones((2, 16, 3, 3), np.float32), np.ones((12, 8), np.float32)
    F.scc(Tensor(x), Tensor(weight), groups=2, overlap=0.5)
    assert used == ["direct_input_centric"]


def test_search_times_a_problem_once_and_keeps_every_timing(monkeypatch, store):
    calls = use_clock(monkeypatch, "direct_output_centric")
    tuning.set_mode("search")
    assert choose() == choose() == "direct_output_centric"
    (record,) = store.records()
    assert {name: len(times) for name, times in record["seconds"].items()} == dict.fromkeys(CANDIDATES, 25)
    assert record["rule"] == cpu.DEFAULT and record["failed"] == {} and len(calls) == 75
    tuning.set_mode("search")
    assert choose() == "direct_output_centric" and len(calls) == 75


@pytest.mark.parametrize("launcher", tuning.LAUNCHERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_search_runs_every_candidate_of_every_pass(monkeypatch, store, launcher, dtype):
    use_clock(monkeypatch, "direct_input_centric")
    rows = 16 if launcher == "backward_input" else 12
    record = task(np.empty((rows, 40), dtype), launcher).search(1.0)
    assert set(record["seconds"]) == set(CANDIDATES) and record["failed"] == {}


def test_a_candidate_that_fails_is_noted_and_never_chosen(monkeypatch, store):
    use_clock(monkeypatch, "direct_output_centric", failing=("direct_output_centric", "tiles"))
    tuning.set_mode("search")
    assert choose() == "direct_input_centric"
    assert set(store.records()[0]["failed"]) == {"direct_output_centric", "tiles"}
    use_clock(monkeypatch, None, failing=CANDIDATES)
    assert choose(launcher="backward_input") == cpu.DEFAULT


def test_a_tie_is_the_rules(monkeypatch):
    use_clock(monkeypatch, None)
    tuning.set_mode("search")
    assert choose() == cpu.DEFAULT


def test_nothing_is_timed_while_a_step_is_captured(monkeypatch):
    tuning.set_mode("search")
    problem = task()
    monkeypatch.setattr(backend, "current_capture", lambda: object())
    assert problem.search_if_possible() is None


def test_without_memory_for_timings_the_rule_decides(monkeypatch):
    def no_memory(*args):
        raise MemoryError("out of memory")

    monkeypatch.setattr(timings, "scratch", no_memory)
    tuning.set_mode("search")
    with pytest.warns(UserWarning, match="no memory for timings of scc forward"):
        assert choose() == cpu.DEFAULT


def test_timings_that_cannot_be_written_still_count_in_this_process(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(tuning, "store", lambda: timings.Store(tmp_path / "file" / "tuning"))
    use_clock(monkeypatch, "direct_output_centric")
    tuning.set_mode("search")
    with pytest.warns(UserWarning, match="will be lost with this process"):
        assert choose() == "direct_output_centric"


def test_damaged_timings_are_set_aside_and_the_rule_decides(store):
    store.save(known("direct_output_centric"))
    for path in store.folder.iterdir():
        path.write_text("{")
    with pytest.warns(UserWarning, match="damaged"):
        assert choose() == cpu.DEFAULT


@pytest.mark.parametrize("mode", ["fast", "READ", "1"])
def test_a_mode_is_one_of_three(monkeypatch, mode):
    with pytest.raises(ValueError, match=f"'read', 'search', 'off', got '{mode}'"):
        tuning.set_mode(mode)
    monkeypatch.setenv("SCCENGINE_TUNING", mode)
    with pytest.raises(ValueError, match="SCCENGINE_TUNING must be one of"):
        tuning.mode_of_environment()
    monkeypatch.setenv("SCCENGINE_TUNING", "")
    assert tuning.mode_of_environment() == "read"


CHOICE = """
import numpy as np
from sccengine import ChannelWindows, tuning
like = np.empty((12, 40), np.float32)
print(tuning.choose("scc", "forward", ChannelWindows.sliding(16, 12, 2, 0.5), like, "highest"))
"""


@pytest.mark.parametrize("mode, expected", [("read", "direct_input_centric"), ("off", "tiles")])
def test_another_process_chooses_by_the_same_timings(monkeypatch, tmp_path, mode, expected):
    use_clock(monkeypatch, "direct_input_centric")
    timings.Store(tmp_path / "cache" / "tuning").save(task().search(1.0))
    environment = {
        **backend.os.environ,
        "SCCENGINE_TUNING": mode,
        "SCCENGINE_CACHE_DIR": str(tmp_path / "cache"),
        "NUMBA_CACHE_DIR": str(cache_root()),
        "NUMBA_NUM_THREADS": str(backend.num_threads()),
    }
    done = subprocess.run([sys.executable, "-c", CHOICE], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


def test_identity_is_of_mode_and_timings_of_this_device(store):
    first = tuning.identity("cpu")
    assert first.startswith("read, 0 problems timed")
    store.save(known("direct_output_centric", versions={}))
    other = tuning.identity("cpu")
    store.save(known("direct_output_centric"))
    second = tuning.identity("cpu")
    store.save(known("direct_input_centric"))
    assert first == other and len({first, second, tuning.identity("cpu")}) == 3
    tuning.set_mode("off")
    assert tuning.identity("cpu") == "off"


def test_a_resumed_run_keeps_its_choices_and_hears_of_changed_timings(store):
    assert choose() == cpu.DEFAULT
    kept = json.loads(json.dumps(tuning.state("cpu")))
    store.save(known("direct_output_centric"))
    tuning.set_mode("read")
    assert choose() == "direct_output_centric"
    with pytest.warns(UserWarning, match="tuning: not what it was when the run was saved"):
        tuning.resume(kept, "cpu")
    assert choose() == cpu.DEFAULT
    assert tuning.state("cpu")["choices"] == kept["choices"]


def test_an_unchanged_tuning_resumes_without_a_word(recwarn):
    choose()
    kept = tuning.state("cpu")
    tuning.set_mode("read")
    tuning.resume(kept, "cpu")
    assert choose() == cpu.DEFAULT and tuning.state("cpu") == kept and not recwarn


def test_a_kept_choice_that_is_not_possible_here(store):
    name = task().name
    tuning.resume({"identity": tuning.identity("cpu"), "choices": {name: "direct_output_centric"}}, "cpu")
    assert choose() == "direct_output_centric"
    tuning._choices.pinned[name] = "of_another_version"
    tuning.set_mode("read")
    with pytest.warns(UserWarning, match="variant 'of_another_version', which cannot be used here"):
        assert choose() == cpu.DEFAULT


def test_a_run_that_is_resumed_after_timings_changed_ends_with_the_bits_of_one_that_was_not(
    monkeypatch, tmp_path, store
):
    weights = {}
    for favourite in ("tiles", "direct_input_centric"):
        use_clock(monkeypatch, favourite)
        tuning.set_mode("search")
        run = trainer(tmp_path / favourite, keep=1000)
        run.fit(4)
        weights[favourite] = run.model.state_dict()
        assert run.directory.read_config()["environment"]["tuning"].startswith("search, 0 problems")
        store.forget()
    by_tiles, directly = weights.values()
    assert any(by_tiles[name].tobytes() != directly[name].tobytes() for name in directly), "or this shows nothing"

    for path in (tmp_path / "direct_input_centric" / "checkpoints").iterdir():
        if path.name > "step-00000008.safetensors":
            path.unlink()
    use_clock(monkeypatch, "tiles")
    tuning.set_mode("search")
    resumed = trainer(tmp_path / "direct_input_centric", keep=1000)
    with pytest.warns(UserWarning, match="tuning: not what it was"):
        resumed.fit(4, resume=True)
    assert resumed.step == 16
    assert_same_weights(resumed.model.state_dict(), directly)


def test_a_gpu_is_known_by_name_capability_and_driver_and_timed_by_events(monkeypatch):
    """With a stand-in for CuPy, whose arrays are NumPy's."""
    log = []
    runtime = SimpleNamespace(
        getDeviceProperties=lambda index: {"name": b"NVIDIA H200", "major": 9, "minor": 0},
        driverGetVersion=lambda: 13000,
    )
    event = SimpleNamespace(record=lambda: log.append("event"), synchronize=lambda: log.append("wait"))
    device = SimpleNamespace(Event=lambda: event, get_elapsed_time=lambda first, last: 2.0, runtime=runtime)
    busy = np.ones(4, np.float32)
    cupy = SimpleNamespace(cuda=device, empty=lambda count, dtype: busy, float32=np.float32, ndarray=type(None))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert tuning.device_key("cuda:1") == {"family": "cuda 9.0", "name": "NVIDIA H200"}
    tuning.kernel_versions.cache_clear()
    versions = tuning.kernel_versions("cuda:1")
    assert versions["driver"] == 13000 and versions["kernels"] != tuning.kernel_versions("cpu")["kernels"]
    tuning.kernel_versions.cache_clear()
    assert CLOCK_FOR("cuda:1")(lambda: log.append(busy.sum())) == 2e-3
    assert log == ["event", 0.0, "event", "wait"], "the launches come after what keeps the device busy"


def test_the_table_names_variants_that_there_are_for_problems_as_they_are_asked():
    rows = json.loads(tuning.TABLE.read_text())["rows"]
    for row in rows:
        assert set(row["for"]) == set(tuning.family_key(task().key))
        assert set(row["for"]["problem"]) == set(task().key["problem"])
        if row["for"]["family"].startswith("cpu"):
            assert cpu.VARIANTS[row["variant"]].deterministic
        assert row["gain"] > 1.1
    assert len(tuning._table()) == len(rows)
