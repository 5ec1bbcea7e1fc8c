"""``sccengine train`` on a narrow network: a run from start to prediction, resuming, signals, broken runs."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from sccengine import models
from sccengine.cli.main import run
from sccengine.training import job, load_weights

SMALL = ["--width", "0.25", "--device", "cpu", "--batch-size", "128"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of two epochs."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert run(["train", "--out", str(folder), "--epochs", "2", "--quiet", *SMALL]) == 0
    return folder


def rows(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def test_it_says_what_it_does_and_how_it_went(tmp_path, capsys):
    assert run(["train", "--out", str(tmp_path / "a"), "--epochs", "1", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "dscnet with dw+scc (groups 2, overlap 0.5)" in out and "359 held out" in out
    assert "1/1" in out and f"sccengine evaluate {tmp_path / 'a'}" in out


def test_quiet_is_quiet(tmp_path, capsys):
    assert run(["train", "--out", str(tmp_path / "a"), "--epochs", "1", "--quiet", *SMALL]) == 0
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_without_out_it_makes_a_dated_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["train", "--epochs", "1", "--quiet", *SMALL]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    time.strptime(folder.name, "%Y%m%d-%H%M%S")
    assert len(rows(folder)) == 1


def test_argument_over_environment_over_default(tmp_path, monkeypatch):
    def seed(name, *arguments):
        assert run(["train", "--out", str(tmp_path / name), "--epochs", "1", "--quiet", *SMALL, *arguments]) == 0
        return json.loads((tmp_path / name / "config.json").read_text())["options"]["seed"]

    assert seed("default") == 0
    monkeypatch.setenv("SCCENGINE_SEED", "7")
    assert seed("environment") == 7
    assert seed("argument", "--seed", "8") == 8
    assert rows(tmp_path / "default") != rows(tmp_path / "environment")


def test_an_existing_run_is_not_overwritten(trained, capsys):
    before = rows(trained)
    assert run(["train", "--out", str(trained), "--epochs", "1", *SMALL]) == 2
    assert "already holds a run: add --resume" in capsys.readouterr().err
    assert rows(trained) == before


def test_resuming_takes_the_options_of_the_run_and_refuses_others(trained, capsys, monkeypatch):
    monkeypatch.setenv("SCCENGINE_SEED", "99")
    assert run(["train", "--out", str(trained), "--resume", "--device", "cpu"]) == 0
    assert "finished already, after 2 epochs" in capsys.readouterr().out
    assert run(["train", "--out", str(trained), "--resume", "--lr", "0.25"]) == 2
    error = capsys.readouterr().err
    assert "--lr 0.25 contradicts" in error and "begun with 0.1" in error and error.count("\n") == 1
    assert run(["train", "--out", str(trained), "--resume", "--epochs", "3", "--device", "cpu"]) == 1
    assert "does not depend on its length" in capsys.readouterr().err


def test_a_constant_schedule_can_be_lengthened(tmp_path):
    def train(name, epochs, *more):
        options = ["--epochs", str(epochs), "--schedule", "constant", "--quiet", *SMALL, *more]
        assert run(["train", "--out", str(tmp_path / name), *options]) == 0
        return load_weights(tmp_path / name / "last.safetensors")[0]

    whole = train("whole", 3)
    train("two", 1)
    parts = train("two", 3, "--resume")
    assert all(whole[key].tobytes() == parts[key].tobytes() for key in whole)
    assert rows(tmp_path / "whole") == rows(tmp_path / "two")


def test_resuming_nothing_starts_the_run_and_says_so(tmp_path, capsys):
    assert run(["train", "--out", str(tmp_path / "new"), "--resume", "--epochs", "1", *SMALL]) == 0
    assert "holds no run yet: starting from the beginning" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", "{", '{"training": {}}'])
def test_a_damaged_config_is_named(tmp_path, capsys, content):
    (tmp_path / "config.json").write_text(content)
    for arguments in (["train", "--resume", "--out", str(tmp_path)], ["evaluate", str(tmp_path)]):
        assert run(arguments) == 1
        error = capsys.readouterr().err
        assert "config.json" in error and error.count("\n") == 1


def test_ctrl_c_saves_says_how_to_go_on_and_is_130(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "sccengine", "train", "--epochs", "4", "--schedule", "constant", *SMALL]
    process = subprocess.Popen(
        [*command, "--out", str(folder / "a"), "--epochs", "2000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if "3/2000" in line:
            break
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert f"sccengine train --out {folder / 'a'} --resume" in error and "Traceback" not in error
    done = len(rows(folder / "a"))
    assert done >= 3
    subprocess.run([*command, "--out", str(folder / "b"), "--quiet"], check=True)
    assert rows(folder / "b")[:done] == rows(folder / "a")[:4]


@pytest.mark.slow
def test_sigkill_and_resume_end_with_the_same_bits(tmp_path):
    command = [sys.executable, "-m", "sccengine", "train", "--quiet", *SMALL]
    command += ["--epochs", "6", "--checkpoint-steps", "4"]
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True)
    cut = [*command, "--out", str(tmp_path / "cut"), "--resume"]
    for wait in (3, 8, 20):
        process = subprocess.Popen(cut, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            steps = [int(p.stem[5:]) for p in (tmp_path / "cut").glob("checkpoints/*.safetensors")]
            if max(steps, default=0) >= wait:
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(cut, check=True)
    for name in ("last.safetensors", "best.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def test_a_loss_that_blows_up_is_one_line_and_code_1(tmp_path, capsys):
    with np.errstate(all="ignore"):
        code = run(["train", "--out", str(tmp_path / "a"), "--lr", "1e30", "--epochs", "2", "--quiet", *SMALL])
    error = capsys.readouterr().err
    assert code == 1 and "at step 2 (epoch 1): the first layer with a non-finite output is" in error
    assert error.count("\n") == 1


def test_a_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(["train", "--out", str(tmp_path / "file" / "run"), "--epochs", "1", *SMALL]) == 1
    assert "cannot make the folder" in capsys.readouterr().err


def test_a_data_set_that_is_not_there(tmp_path, capsys):
    assert run(["train", "--out", str(tmp_path / "a"), "--dataset", "cifar10", "--data-dir", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "cifar10" in error and "not installed" in error and error.count("\n") == 1
    assert not (tmp_path / "a").exists()


def test_a_dry_run_checks_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["train", "--dry-run", "--epochs", "7", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "data: images 1 x 8 x 8, 10 classes; 7 epochs of 11 steps of 128 images" in out
    assert "MACs an image" in out and "gradients finite" in out and out.endswith("nothing was updated or written\n")
    assert run(["train", "--dry-run", "--quiet", *SMALL]) == 0
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_finds_data_that_a_model_cannot_take(tmp_path, capsys):
    images = np.zeros((20, 16, 16), np.uint8)
    np.savez(tmp_path / "small.npz", images=images, labels=np.arange(20) % 2)
    arguments = [
        "train",
        "--dry-run",
        "--dataset",
        f"npz:{tmp_path / 'small.npz'}",
        "--out",
        str(tmp_path / "a"),
        *SMALL,
    ]
    assert run([*arguments, "--model", "vgg11"]) == 2
    assert "images must be at least 32 x 32, got 16 x 16" in capsys.readouterr().err
    assert run([*arguments, "--model", "resnet18"]) == 0
    assert not (tmp_path / "a").exists()


def test_a_dry_run_names_numbers_that_are_not_finite(tmp_path, capsys, monkeypatch):
    build = job.build_model

    def build_broken(config):
        model = build(config)
        model.head.weight.data[0, 0] = np.nan
        return model

    monkeypatch.setattr(job, "build_model", build_broken)
    with np.errstate(all="ignore"):
        assert run(["train", "--dry-run", "--out", str(tmp_path / "a"), *SMALL]) == 1
    assert "dry run: the loss is not finite on the first batch" in capsys.readouterr().err


@pytest.fixture
def options_of(tmp_path, monkeypatch, capsys):
    """A function arguments -> (options, epochs) with which `sccengine train` would build a run."""

    def stop(options, epochs, *others, **settings):
        raise RuntimeError(json.dumps([options, epochs]))

    def ask(*arguments):
        assert run(["train", "--out", str(tmp_path / "none"), *arguments]) == 1
        return json.loads(capsys.readouterr().err.removeprefix("sccengine: "))

    monkeypatch.setattr("sccengine.cli.train.build_trainer", stop)
    return ask


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_a_preset_is_the_recipe_of_the_paper(options_of, name):
    options, epochs = options_of("--preset", name, "--model", "vgg16", "--groups", "4")
    assert (options["preset"], options["dataset"], options["model"], options["groups"]) == (name, name, "vgg16", 4)
    assert (options["optimizer"], options["nesterov"], options["lr"]) == ("sgd", False, 0.1)
    assert (options["weight_decay"], options["decay"]) == (5e-4, "all")
    assert (options["schedule"], epochs, options["batch_size"]) == ("cosine", 200, 128)
    assert options["augment"] is True and options["label_smoothing"] == 0
    optimizer = job.build_optimizer({"options": options}, models.build("dscnet", width=0.125))
    (group,) = optimizer.param_groups
    assert (group["momentum"], group["nesterov"], group["weight_decay"], group["lr"]) == (0.9, False, 5e-4, 0.1)


def test_options_and_environment_take_precedence_over_a_preset(options_of, monkeypatch):
    monkeypatch.setenv("SCCENGINE_SEED", "5")
    given = ["--lr", "0.05", "--epochs", "3", "--dataset", "synthetic", "--nesterov", "--no-augment"]
    for arguments in (["--preset", "cifar10", *given], [*given, "--preset", "cifar10"]):
        options, epochs = options_of(*arguments)
        assert (options["lr"], epochs, options["dataset"], options["seed"]) == (0.05, 3, "synthetic", 5)
        assert options["nesterov"] is True and options["augment"] is False
        assert options["weight_decay"] == 5e-4 and options["decay"] == "all"


def test_without_a_preset_biases_and_batch_norm_do_not_decay(options_of):
    options, _ = options_of()
    assert options["preset"] is None
    optimizer = job.build_optimizer({"options": options}, models.build("dscnet", width=0.125))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [5e-3, 0.0]
    assert all(group["nesterov"] for group in optimizer.param_groups)


def test_a_run_begun_with_a_preset_goes_on_without_naming_it(tmp_path, capsys):
    out = ["--out", str(tmp_path / "a"), "--device", "cpu"]
    recipe = ["--preset", "cifar10", "--dataset", "digits", "--epochs", "1", "--width", "0.25", "--quiet"]
    assert run(["train", *recipe, *out]) == 0
    assert run(["train", *out, "--resume"]) == 0
    assert run(["train", *out, "--resume", "--preset", "cifar10"]) == 0
    assert "finished already, after 1 epoch\n" in capsys.readouterr().out
    assert run(["train", *out, "--resume", "--preset", "cifar100"]) == 2
    assert "--preset cifar100 contradicts" in capsys.readouterr().err


def test_settings_by_layer_are_kept_and_resumed(tmp_path, capsys):
    arguments = ["train", "--out", str(tmp_path), "--width", "0.25", "--epochs", "1", "--device", "cpu", "--quiet"]
    design = ["--groups", "2,4,2", "--overlap", "0.5,0.25,0.5"]
    assert run([*arguments, *design]) == 0
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model"]["groups"] == [2, 4, 2] and config["model"]["overlap"] == [0.5, 0.25, 0.5]
    assert run([*arguments, *design, "--resume"]) == 0
    assert run([*arguments, "--resume", "--groups", "2,2,2"]) == 2
    assert "contradicts the run" in capsys.readouterr().err
    assert run(["evaluate", str(tmp_path), "--device", "cpu"]) == 0
