"""Checkpoints: what is saved comes back to the bit; damage of any kind is noticed, named and got round."""

import json
import struct
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from sccengine import nn
from sccengine.training.checkpoint import (
    CheckpointFolder,
    _digest,
    load_weights,
    pack,
    read_file,
    save_weights,
    unpack,
    write_file,
)
from sccengine.training.errors import CheckpointError

KIND = "a test"


def state(step=0):
    random = np.random.default_rng(step)
    return {
        "weights": {"a.weight": random.standard_normal((3, 4), np.float32), "a.count": np.array(7, np.int64)},
        "optimizer": {"state": {0: {"momentum": random.standard_normal(5)}, 1: {}}, "betas": (0.9, 0.999)},
        "lr": 0.1 + 0.2,
        "seed": 2**63 + 1,
        "text": "ümlaut\n",
        "nothing": None,
        "flags": [True, False, []],
        "step": step,
    }


def assert_same(got, want):
    assert type(got) is type(want)
    if isinstance(want, dict):
        assert list(got) == list(want)
        for key in want:
            assert_same(got[key], want[key])
    elif isinstance(want, (list, tuple)):
        assert len(got) == len(want)
        for one, other in zip(got, want):
            assert_same(one, other)
    elif isinstance(want, np.ndarray):
        assert got.dtype == want.dtype and got.shape == want.shape
        assert got.tobytes() == want.tobytes()
    else:
        assert got == want


def test_a_state_comes_back_to_the_bit(tmp_path):
    write_file(tmp_path / "a", KIND, state())
    assert_same(read_file(tmp_path / "a", KIND), state())
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_equal_states_make_equal_files_in_every_process(tmp_path):
    program = (
        "import sys, numpy as np; from sccengine.training.checkpoint import save_weights;"
        "save_weights(sys.argv[1], {'b': np.ones(3), 'a': np.zeros((2, 2))}, {'epoch': 3, 'text': 'x'})"
    )
    files = [tmp_path / name for name in "abc"]
    for file in files:
        subprocess.run([sys.executable, "-c", program, str(file)], check=True)
    assert len({file.read_bytes() for file in files}) == 1


def test_keys_that_look_alike_do_not_collide():
    value = {"a": {"b/c": np.zeros(1), "b": {"c": np.ones(1)}}, "$array": np.full(1, 2.0), 1: 3, "1": 4}
    tree, arrays = pack(value)
    assert_same(unpack(json.loads(json.dumps(tree)), arrays), value)


def test_what_cannot_be_saved_is_named():
    with pytest.raises(TypeError, match="checkpoint: a/0 is a set, which cannot be saved"):
        pack({"a": [{1}]})


@pytest.mark.parametrize("view", [np.s_[:, ::2], np.s_[::-1], np.s_[1:, 1:]])
def test_strided_arrays_are_saved_by_their_elements(tmp_path, view):
    array = np.arange(24.0).reshape(4, 6)
    for strided in (array[view], array.T[view], np.asfortranarray(array)):
        save_weights(tmp_path / "w.safetensors", {"w": strided})
        np.testing.assert_array_equal(load_weights(tmp_path / "w.safetensors")[0]["w"], strided)
        np.testing.assert_array_equal(load_file(tmp_path / "w.safetensors")["w"], strided)


def test_weights_of_another_program_can_be_read_and_a_checkpoint_is_not_mistaken_for_them(tmp_path):
    from safetensors.numpy import save_file

    save_file({"w": np.ones(3)}, tmp_path / "foreign.safetensors")
    weights, extra = load_weights(tmp_path / "foreign.safetensors")
    assert list(weights) == ["w"] and extra == {}
    path = CheckpointFolder(tmp_path).save(1, state())
    with pytest.raises(CheckpointError, match="expected .sccengine weights 1., found .sccengine checkpoint 1."):
        load_weights(path)
    with pytest.raises(CheckpointError, match="no such file"):
        load_weights(tmp_path / "absent")


def damage(path, how):
    data = bytearray(path.read_bytes())
    (header,) = struct.unpack("<Q", data[:8])
    if how == "empty":
        data = b""
    elif how == "cut in the header":
        data = data[: 8 + header // 2]
    elif how == "cut in the data":
        data = data[:-3]
    elif how == "a bit of an array":
        data[8 + header + 5] ^= 1
    elif how == "a digit of the state":
        at = data.index(b'\\"step\\": ') + len(b'\\"step\\": ')
        data[at] = ord("8")
    elif how == "a name":
        data = data.replace(b"a.weight", b"b.weight")
    elif how == "noise":
        data = np.random.default_rng(0).bytes(len(data))
    elif how == "an endless header":
        data[:8] = struct.pack("<Q", 2**62)
    path.write_bytes(data)


DAMAGES = [
    "empty",
    "cut in the header",
    "cut in the data",
    "a bit of an array",
    "a digit of the state",
    "a name",
    "noise",
    "an endless header",
]


@pytest.mark.parametrize("how", DAMAGES)
def test_damage_is_noticed_named_and_the_one_before_is_used(tmp_path, how):
    folder = CheckpointFolder(tmp_path / "checkpoints")
    for step in (1, 2, 3):
        folder.save(step, state(step))
    newest = folder.paths()[0]
    damage(newest, how)
    warnings = []
    path, loaded = folder.load_newest(warnings.append)
    assert path.name == "step-00000002.safetensors"
    assert_same(loaded, state(2))
    assert len(warnings) == 1 and str(newest) in warnings[0] and "step-00000002" in warnings[0]
    assert newest.exists()


def test_if_none_is_usable_the_error_says_so_and_nothing_is_lost(tmp_path):
    folder = CheckpointFolder(tmp_path)
    for step in (1, 2):
        damage(folder.save(step, state(step)), "cut in the data")
    before = {path: path.read_bytes() for path in folder.paths()}
    with pytest.raises(CheckpointError, match="no usable checkpoint in .*step-00000002.*step-00000001.*Nothing was"):
        folder.load_newest(print)
    assert {path: path.read_bytes() for path in folder.paths()} == before


def test_an_empty_folder_has_no_checkpoint(tmp_path):
    assert CheckpointFolder(tmp_path / "none").load_newest(print) is None


def test_the_last_few_are_kept_in_the_order_of_their_steps(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=2)
    for step in (9, 10, 100_000_000):
        folder.save(step, state(step))
    assert [path.name for path in folder.paths()] == ["step-100000000.safetensors", "step-00000010.safetensors"]
    with pytest.raises(ValueError, match="at least 2"):
        CheckpointFolder(tmp_path, keep=1)


def test_a_failed_write_leaves_the_checkpoints_and_no_temporary_file(tmp_path, monkeypatch):
    folder = CheckpointFolder(tmp_path)
    folder.save(1, state(1))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(CheckpointError, match="cannot write .*step-00000002.*No space left.*still .*step-00000001"):
            folder.save(2, state(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.safetensors"]
    assert_same(folder.load_newest(print)[1], state(1))


def test_a_half_written_temporary_file_is_swept_up_and_other_files_are_not(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.save(1, state(1))
    (tmp_path / ".step-00000002.safetensors.4711.tmp").write_bytes(b"half")
    (tmp_path / ".mine.tmp").write_bytes(b"somebody's")
    assert folder.load_newest(print)[0].name == "step-00000001.safetensors"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.tmp", "step-00000001.safetensors"]


def _whole_file(path, state):
    """A file whose digest is right, whatever its state is."""
    record = {"format": KIND, "state": state, "sha256": _digest({}, state)}
    path.write_bytes(save({}, metadata={"sccengine": json.dumps(record)}))


@pytest.mark.parametrize(
    "state", [{"$array": "absent"}, {"$tuple": 5}, {"$pairs": [1]}, {"$pairs": [[[1], 2]]}], ids=str
)
def test_a_state_that_cannot_be_put_together_is_an_error_of_the_file(tmp_path, state):
    path = tmp_path / "a.safetensors"
    _whole_file(path, state)
    with pytest.raises(CheckpointError, match="a.safetensors: its state cannot be put together"):
        read_file(path, KIND)


def test_a_header_nested_beyond_reason_is_an_error_of_the_file(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(save({}, metadata={"sccengine": "[" * 100_000}))
    with pytest.raises(CheckpointError, match="a.safetensors: damaged"):
        read_file(path, KIND)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda path, model: save_weights(path, model),
            r"save_weights\(path, weights\) takes .* got PosixPath and ReLU",
        ),
        (lambda path, model: save_weights({}, path), r"model\.state_dict\(\), got dict and PosixPath"),
        (lambda path, model: load_weights(model), r"load_weights\(path\) takes a path .*, got ReLU"),
    ],
)
def test_swapped_arguments_are_told_the_order(tmp_path, call, message):
    with pytest.raises(TypeError, match=message):
        call(tmp_path / "a", nn.ReLU())


@pytest.mark.parametrize("weights", [{"a": np.array([None])}, {1: np.ones(1)}, {"a": "text"}], ids=str)
def test_weights_that_are_no_numbers_are_refused(tmp_path, weights):
    with pytest.raises(TypeError, match="names must be text and arrays hold numbers"):
        save_weights(tmp_path / "a", weights)
    assert not list(tmp_path.iterdir())
