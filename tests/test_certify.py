"""Certificates: what holds is certified, whatever is planted is caught, and a file that was altered is refused."""

import json
from functools import partial

import numpy as np
import pytest

from sccengine import DataError, backend, certify, models, timings, tuning
from sccengine.certify import Layer, checks, definition, plans, probes
from sccengine.cli.main import run
from sccengine.kernels.cpu import rows as row_kernels
from sccengine.kernels.cpu import scc as kernels
from sccengine.training.checkpoint import CHECKPOINT_FORMAT, read_file
from sccengine.windows import ChannelWindows

WRAPS = Layer.scc(12, 7, 3, 0.5)  # K 4, S 2; filters 5 and 6 wrap
HOSTILE = [
    (12, 7, 3, "0.5"),
    (6, 20, 1, "0.5"),
    (10, 3, 10, "0"),
    (9, 5, 3, "0.9"),
    (16, 24, 2, "0.33"),
    (1, 3, 1, "0"),
]
PASSES = [
    *tuning.LAUNCHERS,
    "backward, dx",
    "backward, dweight",
    "backward without dx, dweight",
    "forward of few columns",
]
VARIANT = "direct_input_centric"
RIGHT = kernels._LAUNCHERS[VARIANT]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(tuning, "store", lambda: timings.Store(tmp_path / "cache" / "tuning"))


def triples_found(layer=WRAPS):
    """(what check_triples gave, problems)."""
    found = []
    return checks.check_triples(layer, "cpu", found), found


@pytest.mark.parametrize("channels, filters, groups, overlap", HOSTILE)
def test_kernels_and_plans_touch_what_the_definition_says(channels, filters, groups, overlap):
    found, problems = triples_found(Layer.scc(channels, filters, groups, overlap))
    assert problems == []
    assert found["count"] == filters * channels // groups
    assert found["kernels"] == {name: dict.fromkeys(("float32", "float64"), PASSES) for name in kernels.VARIANTS}


@pytest.mark.parametrize("settings", [dict(groups=1), dict(groups=3)])
def test_pointwise_and_grouped_convolutions_too(settings):
    from sccengine import nn

    found, problems = triples_found(Layer.of(nn.Conv2d(6, 9, 1, **settings)))
    assert problems == [] and found["count"] == 9 * 6 // settings["groups"]


def test_codes_that_are_sent_in_digits_are_put_together_again():
    windows = ChannelWindows.sliding(12, 7, 3, 0.5)
    triples = definition.codes(definition.sliding(12, 7, 3, 0.5), 12)
    for bits, columns in ((1, 5), (3, 100), (53, 7)):
        run = probes.Contraction(windows, "tiles", "float32", "cpu")
        run.bits, run.columns = bits, columns
        for probe in (probes.forward_triples, probes.input_triples, probes.weight_triples):
            assert np.array_equal(probe(run), triples)
        assert run.launches > 3


def test_every_size_of_tiles_that_a_kernel_takes_is_enumerated():
    from sccengine.kernels.cpu.scc_microkernels import ROWS
    from sccengine.kernels.cuda import scc_register_tiles, scc_tensor, scc_tiles

    shapes = [*scc_register_tiles.SHAPES.values(), *scc_tensor.SHAPES.values()]
    assert {1, ROWS, scc_tiles.TILE, *(shape.tile for shape in shapes)} <= set(plans.SIZES)


# Faults


def replace(monkeypatch, **launchers):
    monkeypatch.setitem(kernels._LAUNCHERS, VARIANT, RIGHT._replace(**launchers))


def test_a_start_that_is_off_by_one_in_the_input_gradient_alone(monkeypatch):
    right = RIGHT.backward_input

    def shifted(dy, weight, dx, windows):
        right(dy, weight, dx, windows)
        dx[...] = np.roll(dx, 1, axis=0)

    replace(monkeypatch, backward_input=shifted)
    found, problems = triples_found()
    wanted = f"backward_input of variant {VARIANT} in float32: does not touch (filter 0, tap 0, channel 0); 56 triples"
    assert problems[0].startswith(wanted)
    assert set(PASSES) - set(found["kernels"][VARIANT]["float64"]) == {"backward_input", "backward, dx"}
    assert found["kernels"]["tiles"]["float64"] == PASSES


def test_a_missing_wrap(monkeypatch):
    def cut_short(x, weight, bias, y, windows):
        y[...] = 0 if bias is None else bias[:, None]
        for f, start in enumerate(windows.starts):
            taps = min(windows.width, windows.in_channels - start)
            y[f] += weight[f, :taps] @ x[start : start + taps]

    replace(monkeypatch, forward=cut_short)
    _, problems = triples_found()
    wanted = f"forward of variant {VARIANT} in float64: does not touch (filter 5, tap 2, channel 0); 2 triples"
    assert problems[4].startswith(wanted), problems


def test_a_weight_gradient_that_drops_a_tap(monkeypatch):
    right = RIGHT.backward_weight

    def dropping(dy, x, dweight, windows):
        right(dy, x, dweight, windows)
        dweight[2, 3] = 0

    replace(monkeypatch, backward_weight=dropping)
    _, problems = triples_found()
    wanted = f"backward_weight of variant {VARIANT} in float32: does not touch (filter 2, tap 3, channel 7)"
    assert problems[0] == wanted
    certificate = certify.certify_layer(WRAPS)
    assert not certificate["content"]["holds"] and certify.problems(certificate)[0] == f"scc: {wanted}"
    assert any(f"gradcheck of variant {VARIANT}: gradient of input 1" in p for p in certify.problems(certificate))
    assert certify.known_layer(WRAPS, "cpu") is None


@pytest.mark.parametrize("with_input", [True, False])
def test_a_fault_where_all_gradients_are_computed_at_once(monkeypatch, with_input):
    right = kernels.backward

    def faulty(dy, x, weight, dx, dweight, dbias, windows, *variants):
        right(dy, x, weight, dx, dweight, dbias, windows, *variants)
        if (dx is not None) == with_input:
            dweight[3, 1] = 0

    monkeypatch.setattr(kernels, "backward", faulty)
    _, problems = triples_found()
    named = "backward, dweight" if with_input else "backward without dx, dweight"
    assert problems[0] == f"{named} of variant channel_stack in float32: does not touch (filter 3, tap 1, channel 7)"


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda x, weight, y: y.__iadd__(weight[0, 0] * x[3]), "row 0, column 3 of the result is 2 products"),
        (lambda x, weight, y: y.__setitem__(1, weight[0] @ x[2:6]), "filter 1 is given the weight of filter 0"),
        (lambda x, weight, y: y.__setitem__((3, -1), np.nan), "row 3, column 11 of the result is nan products"),
        # Right for one-hot operands: only together do two channels go wrong.
        (lambda x, weight, y: y.__setitem__(0, y[0] + x[0] * x[1]), "forward is"),
    ],
)
def test_other_faults_of_a_kernel_are_named(monkeypatch, spoil, message):
    right = RIGHT.forward

    def faulty(x, weight, bias, y, windows):
        right(x, weight, bias, y, windows)
        spoil(x, weight, y)

    replace(monkeypatch, forward=faulty)
    _, problems = triples_found()
    assert any(message in problem for problem in problems), problems


def test_a_fault_in_a_table_is_named(monkeypatch):
    right = ChannelWindows._cut_channels

    def faulty(windows, size):
        tiles = right(windows, size)
        tiles.length[0] -= size == 16
        return tiles

    monkeypatch.setattr(ChannelWindows, "_cut_channels", faulty)
    _, problems = triples_found(Layer.scc(12, 8, 3, 0.25))  # of which nobody has cut tiles yet
    assert problems[0].startswith("plan tiles of 16 channels: does not touch (filter ")


def test_a_gradient_that_does_not_fit_its_output(monkeypatch):
    right = row_kernels.sum_rows
    monkeypatch.setattr(row_kernels, "sum_rows", lambda rows, sums: (right(rows, sums), sums.__imul__(2)))
    problems = []
    checks.check_gradcheck(WRAPS, "cpu", problems)
    assert problems[0].startswith("gradcheck of variant channel_stack: gradient of input 2")


def test_bits_that_change_from_run_to_run_or_with_the_threads(monkeypatch):
    right, calls = RIGHT.forward, []

    def noisy(x, weight, bias, y, windows, every):
        right(x, weight, bias, y, windows)
        calls.append(backend.num_threads())
        if every(calls):
            y[0, 0] = np.nextafter(y[0, 0], np.float32(np.inf))

    replace(monkeypatch, forward=partial(noisy, every=lambda calls: len(calls) == 3))
    problems = []
    found = checks.check_repeats(WRAPS, "cpu", problems)
    assert problems[0].startswith(f"repeats of variant {VARIANT}: output has other bits in run 3")
    assert VARIANT not in found["same"] and "tiles" in found["same"]
    assert found["not_deterministic"] == ["channel_stack", "cyclic_stack"]
    if found["threads"] == [1, 2]:
        assert calls[:3] == [1, 2, 1]
        replace(monkeypatch, forward=partial(noisy, every=lambda calls: calls[-1] == 2))
        checks.check_repeats(WRAPS, "cpu", problems)
        assert "run 2 on 2 threads" in problems[-1]


# The certificate


def test_it_is_the_same_every_time_and_known_afterwards():
    assert certify.known_layer(WRAPS, "cpu") is None
    one = certify.certify_layer(WRAPS)
    other = certify.certify_layer(WRAPS, again=True)
    assert one["sha256"] == other["sha256"] == certify.known_layer(WRAPS, "cpu")
    assert one["content"] == other["content"] and one["content"]["holds"]
    certify.check_intact(json.loads(json.dumps(one)))


def test_a_model_has_each_layer_once():
    settings = dict(name="dscnet", scheme="dw+scc", width=0.25, in_channels=1, num_classes=4)
    model = models.build(**settings)
    layers = certify.layers_of(model)
    names = [name for _, names in layers for name in names]
    weights = {name.rpartition(".")[0] for name, _ in model.named_parameters()}
    assert sorted(names) == sorted(weights) and len(layers) < len(names)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["content"]["layers"][0]["triples"].update(count=1),
        lambda c: c["content"].update(holds=False),
        lambda c: c["content"]["layers"][0].update(problems=["x"]),
        lambda c: c.update(sha256="0" * 64),
        lambda c: c.update(format="another"),
        lambda c: c["content"].pop("layers"),
        lambda c: c.update(content=[]),
    ],
)
def test_an_altered_certificate_is_refused(change):
    certificate = certify.certify_layer(Layer.scc(4, 2, 2, 0.5))
    change(certificate)
    with pytest.raises(DataError, match="the certificate: "):
        certify.check_intact(certificate)


def test_a_damaged_cache_is_not_believed(tmp_path):
    layer = Layer.scc(4, 2, 2, 0.5)
    certify.certify_layer(layer)
    (path,) = (tmp_path / "cache" / "certificates").iterdir()
    path.write_text(path.read_text().replace('"count": 4', '"count": 5'))
    assert certify.known_layer(layer, "cpu") is None
    path.write_text("{")
    assert certify.certify_layer(layer)["content"]["holds"]


# The command line, and what carries the hash

LAYER = [
    "certify",
    "--device",
    "cpu",
    "--layer",
    "scc",
    "--in",
    "12",
    "--out",
    "7",
    "--groups",
    "3",
    "--overlap",
    "0.5",
]


def test_a_layer_is_certified_saved_and_verified(tmp_path, capsys):
    file = tmp_path / "layer.json"
    assert run([*LAYER, "--save", str(file)]) == 0
    out = capsys.readouterr().out
    assert "28 in the definition, 17 tables, channel_stack (float32, float64)" in out and "holds on" in out
    assert run(["certify", "--verify", str(file)]) == 0
    assert f"{file}: intact\n" in capsys.readouterr().out
    assert run(["certify", "--verify", str(file), "--again", "--device", "cpu"]) == 0
    assert "intact, and the same comes out here" in capsys.readouterr().out
    file.write_text(file.read_text().replace('"count": 28', '"count": 27'))
    assert run(["certify", "--verify", str(file)]) == 1
    assert "altered" in capsys.readouterr().err
    assert run(["certify", "--verify", str(tmp_path / "none")]) == 1


def without_weight_gradients(dy, x, weight, dx, dweight, dbias, windows, *variants, right=kernels.backward):
    right(dy, x, weight, dx, dweight, dbias, windows, *variants)
    dweight.fill(0)


def test_what_fails_here_is_no_longer_the_same(tmp_path, capsys, monkeypatch):
    file = tmp_path / "layer.json"
    assert run([*LAYER, "--save", str(file)]) == 0
    monkeypatch.setattr(kernels, "backward", without_weight_gradients)
    assert run(["certify", "--verify", str(file), "--again", "--device", "cpu"]) == 1
    assert "not what comes out here: layers is another" in capsys.readouterr().err
    assert run([*LAYER, "--again"]) == 1
    out = capsys.readouterr().out
    assert "FAILS: scc: backward, dweight of variant channel_stack in float32: does not touch (filter 0, tap 0," in out
    assert "does NOT hold" in out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--layer", "scc", "--in", "12"], "--layer needs --in C and --out O"),
        (["--in", "12"], "--in is for --layer scc"),
        (["--layer", "scc", "--in", "12", "--out", "7", "--groups", "5"], "groups=5 does not divide in_channels=12"),
        (["--layer", "scc", "--in", "12", "--out", "7", "--width", "2"], "--layer does not go with width"),
        (["--verify", "x", "--model", "vgg16"], "--verify takes what to certify from its file"),
        (["nowhere"], "does not exist"),
    ],
)
def test_wrong_usage(arguments, message, capsys):
    assert run(["certify", "--device", "cpu", *arguments]) == 2
    assert message in capsys.readouterr().err


SMALL = ["--epochs", "1", "--width", "0.25", "--batch-size", "512", "--device", "cpu", "--quiet"]


def test_a_run_carries_the_hash_in_config_and_checkpoints(tmp_path, capsys):
    def train(name, *more):
        assert run(["train", "--out", str(tmp_path / name), *SMALL, *more]) == 0
        config = json.loads((tmp_path / name / "config.json").read_text())
        newest = sorted((tmp_path / name / "checkpoints").iterdir())[-1]
        kept = read_file(newest, CHECKPOINT_FORMAT)["certificate"]
        assert kept == config["environment"]["certificate"]
        return kept

    assert train("before") is None
    certified = train("certified", "--certify")
    assert certified == train("after") and len(certified) == 64
    capsys.readouterr()
    assert run(["certify", str(tmp_path / "before"), "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == certified
    assert json.loads((tmp_path / "before" / "certificate.json").read_text())["sha256"] == certified


def test_kernels_that_fail_are_not_trained_with(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(kernels, "backward", without_weight_gradients)
    assert run(["train", "--out", str(tmp_path / "a"), *SMALL, "--certify"]) == 1
    assert "nothing was trained: blocks.0.mix: backward, dweight of variant" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_rows_of_the_scc_benchmark_carry_the_hash():
    from sccengine.bench import scc
    from sccengine.bench.harness import Options, Session

    options = Options("cpu", min_samples=3, timeout=0.2, cache="warm", threads=1)

    class Ceilings:
        values = {"memory": 1e15, "cache": 1e15, "gemm": 1e18}

    session = Session(options, Ceilings())
    axes = {"N": 1, "C": 12, "O": 7, "H": 2, "cg": 3, "co": 0.5, "pass": "forward"}
    assert session.measure("scc", scc.case(axes, "cpu"))["certificate"] is None
    sha = certify.certify_layer(WRAPS)["sha256"]
    assert session.measure("scc", scc.case(axes, "cpu"))["certificate"] == sha
