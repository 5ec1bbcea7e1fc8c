"""Checkpoints and weights: one self-checking safetensors file each, written atomically.

A file holds named arrays and, in the safetensors header under "sccengine", one JSON object:

    format   "sccengine checkpoint 1" or "sccengine weights 1"
    state    everything that is not an array (optimizer settings, loader position, random state, history ...)
    sha256   a digest over the state and over every array's name, dtype, shape and bytes

so a file that was cut short, overwritten or altered by one bit is recognised, whoever copied it. Equal contents give
equal files, byte for byte. There is no pickle.

A state is any nesting of dicts, lists, tuples, numbers, strings, None and NumPy arrays: `pack` moves the arrays out
and leaves {"$array": key} in their place, `unpack` puts them back.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sccengine.files import is_path, remove_if_there, remove_temporaries, write_atomically
from sccengine.training.errors import CheckpointError

CHECKPOINT_FORMAT = "sccengine checkpoint 1"
WEIGHTS_FORMAT = "sccengine weights 1"
_RECORD = "sccengine"
_NAME = re.compile(r"step-(\d+)\.safetensors")


class CheckpointFolder:
    """The checkpoints of one run, ``step-00000046.safetensors`` and so on; the last `keep` of them are kept.

    At least two are kept, so that there is one to go back to if the newest is damaged.
    """

    def __init__(self, path, keep=3):
        if keep < 2:
            raise ValueError(f"checkpoints to keep: at least 2 (one to go back to), got {keep}")
        self.path = Path(path)
        self.keep = keep

    def by_step(self):
        """{number of steps: checkpoint file}, oldest first."""
        found = [(int(match[1]), path) for path in self.path.glob("*") if (match := _NAME.fullmatch(path.name))]
        return dict(sorted(found))

    def paths(self):
        """Every checkpoint file, newest first."""
        return list(reversed(self.by_step().values()))

    def save(self, step, state):
        """Write the state after `step` steps, then drop the oldest ones. Raises CheckpointError."""
        path = self.path / f"step-{step:08d}.safetensors"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_file(path, CHECKPOINT_FORMAT, state)
        except OSError as error:
            kept = next(iter(self.paths()), None)
            where = f"the newest checkpoint is still {kept}" if kept else "there is no earlier checkpoint"
            raise CheckpointError(f"{error.strerror or error}; {where}") from error
        for old in self.paths()[self.keep :]:
            remove_if_there(old)
        return path

    def load_newest(self, warn):
        """(path, state) of the newest checkpoint that is whole, or None if there has never been one.

        `warn` is called with a sentence for every damaged one that is passed over. Raises CheckpointError if there
        are checkpoints and none is usable; nothing is deleted.
        """
        remove_temporaries(self.path)
        damaged = []
        for path in self.paths():
            try:
                state = read_file(path, CHECKPOINT_FORMAT)
            except CheckpointError as error:
                damaged.append(str(error))
                continue
            for message in damaged:
                warn(f"{message}; going back to {path.name}")
            return path, state
        if damaged:
            raise CheckpointError(
                f"no usable checkpoint in {self.path}: {'; '.join(damaged)}. Nothing was changed; "
                f"restore one of these files from a copy, or start a new run in another folder"
            )
        return None


def save_weights(path, weights, state=None):
    """Write a state dict (name -> array) as an ordinary safetensors file, readable by any safetensors reader.

    Raises CheckpointError where it cannot be written; nothing is left half written then. TypeError for anything but a
    path and a state dict.
    """
    if not is_path(path) or not isinstance(weights, Mapping):
        raise TypeError(
            "save_weights(path, weights) takes a path and a state dict, that of model.state_dict(), "
            f"got {type(path).__name__} and {type(weights).__name__}"
        )
    try:
        _write(path, WEIGHTS_FORMAT, dict(weights), state or {})
    except OSError as error:
        raise CheckpointError(error.strerror or str(error)) from error


def load_weights(path):
    """(name -> array, state) of a file that `save_weights` wrote, or of any safetensors file (state is then {}).

    Raises CheckpointError for a file that is missing, damaged or of another kind, and TypeError for what is no path.
    """
    if not is_path(path):
        raise TypeError(f"load_weights(path) takes a path and gives the weights back, got {type(path).__name__}")
    arrays, record = _read(path)
    if record is None:
        return arrays, {}
    _expect(path, record, WEIGHTS_FORMAT)
    return arrays, record["state"]


def write_file(path, kind, state):
    """Write any `state` (see the module's text) to `path`, atomically."""
    tree, arrays = pack(state)
    _write(path, kind, arrays, tree)


def read_file(path, kind):
    """The state that `write_file` wrote. Raises CheckpointError that names the file and what is wrong with it."""
    arrays, record = _read(path)
    _expect(path, record or {}, kind)
    try:
        return unpack(record["state"], arrays)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its state cannot be put together ({error!r})") from error


def pack(state):
    """(tree, arrays): `state` with every array replaced by {"$array": key}, and the arrays by key."""
    arrays = {}

    def walk(value, path):
        if isinstance(value, np.ndarray):
            key = "/".join(path) or "value"
            while key in arrays:
                key += "'"
            arrays[key] = value
            return {"$array": key}
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, dict):
            if all(isinstance(key, str) and not key.startswith("$") for key in value):
                return {key: walk(item, (*path, key)) for key, item in value.items()}
            pairs = [[key, walk(item, (*path, str(key)))] for key, item in value.items()]
            return {"$pairs": pairs}
        if isinstance(value, tuple):
            return {"$tuple": [walk(item, (*path, str(i))) for i, item in enumerate(value)]}
        if isinstance(value, list):
            return [walk(item, (*path, str(i))) for i, item in enumerate(value)]
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise TypeError(f"checkpoint: {'/'.join(path)} is a {type(value).__name__}, which cannot be saved")

    return walk(state, ()), arrays


def unpack(tree, arrays):
    """The inverse of `pack`."""
    if isinstance(tree, list):
        return [unpack(item, arrays) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if "$array" in tree:
        return arrays[tree["$array"]]
    if "$tuple" in tree:
        return tuple(unpack(item, arrays) for item in tree["$tuple"])
    if "$pairs" in tree:
        return {key: unpack(item, arrays) for key, item in tree["$pairs"]}
    return {key: unpack(item, arrays) for key, item in tree.items()}


def _write(path, kind, arrays, state):
    from safetensors.numpy import save

    # safetensors writes the memory behind an array, not its elements: a strided one would be saved wrong.
    arrays = {name: np.array(array, order="C", copy=None) for name, array in arrays.items()}
    for name, array in arrays.items():
        if not isinstance(name, str) or array.dtype.kind not in "fiub":
            raise TypeError(f"{path}: names must be text and arrays hold numbers, got {name!r} of {array.dtype}")
    record = {"format": kind, "state": state, "sha256": _digest(arrays, state)}
    # One entry: safetensors writes several in an order that changes from process to process.
    write_atomically(path, save(arrays, metadata={_RECORD: json.dumps(record)}))


def _read(path):
    """(arrays, record), checked against the record's digest; None as the record of another program's file."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            record = (file.metadata() or {}).get(_RECORD)
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        if record is None:
            return arrays, None
        record = json.loads(record)
        whole = record["sha256"] == _digest(arrays, record["state"])
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged or no safetensors file ({error})") from error
    if not whole:
        raise CheckpointError(f"{path}: damaged (its contents do not match its checksum)")
    return arrays, record


def _expect(path, record, kind):
    found = record.get("format", "a file of another program")
    if found != kind:
        raise CheckpointError(f"{path}: expected {kind!r}, found {found!r}")


def _digest(arrays, state):
    digest = hashlib.sha256(json.dumps(state).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
