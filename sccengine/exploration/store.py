"""Where a study's record is kept: a journal file in its folder, or a PostgreSQL database (postgres.py).

A store holds the plan (plan.py) and the newest record of every trial, and knows which workers are alive. All changes go
through ``update(change)``: `change` sees the whole table of trials as nobody else can while it runs, and what it puts
there is kept entirely or not at all. That is all that claiming a trial and ending it exactly once need.

The journal is JSON lines, one record a line, only ever added to: a later record of a trial replaces the earlier one. A
last line without an end was cut short by a crash and is removed by the next writer. Workers hold an operating-system
lock on a file of their own under workers/, which the system drops when they die, however they die; seen from another
machine, where such locks need not be visible, a worker is alive as long as it goes on touching that file.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from sccengine.exploration.trial import Trial
from sccengine.files import remove_if_there, write_json
from sccengine.training import RunDirectoryError
from sccengine.training.lock import try_lock
from sccengine.training.run_directory import RunDirectory, make_folder

_POLL = 0.01  # seconds between two attempts to get a lock
_BEAT = 10.0  # seconds between two signs of life
_SILENCE = 90.0  # seconds without one after which a worker on another machine is taken for dead


class Table(dict):
    """Trials by number, in order, as one ``update`` sees them; ``put`` records a new state of one."""

    def __init__(self, trials):
        super().__init__(sorted(trials.items()))
        self.changed = {}

    def put(self, trial):
        """Record `trial`, and return it."""
        self[trial.number] = self.changed[trial.number] = trial
        return trial


class FileStore:
    """The study in the folder `path`: settings.json, journal.jsonl, workers/, trials/."""

    def __init__(self, path):
        self.path = Path(path)
        self.settings = self.path / "settings.json"
        self.journal = self.path / "journal.jsonl"
        self._trials = {}
        self._offset = 0
        self._lines = 0

    def __str__(self):
        return str(self.path)

    def read_plan(self):
        """The plan as plain values, or None where there is no study yet."""
        try:
            values = json.loads(self.settings.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise RunDirectoryError(f"{self.settings}: cannot be read ({error})") from error
        if not isinstance(values, dict):
            raise RunDirectoryError(f"{self.settings}: expected an object, found {type(values).__name__}")
        if "variants" in values:
            raise RunDirectoryError(f"{self.path} holds a comparison: choose another folder for an exploration")
        return values

    def begin(self, plan, saved):
        """Whether `plan` (plain values) was put in the place of `saved` (None: of nothing): not if that is no longer
        there, because another process was first."""
        make_folder(self.path)
        if RunDirectory(self.path).holds_run():
            raise RunDirectoryError(f"{self.path} holds a run: choose another folder for an exploration")
        with self._locked():
            if self.read_plan() != saved:
                return False
            write_json(self.settings, plan)
        return True

    def trials(self):
        """All trials as they are recorded now, in order."""
        try:
            with open(self.journal, "rb") as file:
                self._catch_up(file)
        except FileNotFoundError:
            pass
        return [trial for _, trial in sorted(self._trials.items())]

    def update(self, change):
        """What `change(table)` returns; what it put into the table is on the disk then."""
        with self._locked() as file:
            self._catch_up(file)
            file.truncate(self._offset)
            table = Table(self._trials)
            result = change(table)
            if table.changed:
                lines = "".join(json.dumps(trial.as_dict()) + "\n" for trial in table.changed.values())
                file.seek(self._offset)
                file.write(lines.encode())
                file.flush()
                os.fsync(file.fileno())
                self._trials |= table.changed
                self._offset = file.tell()
                self._lines += len(table.changed)
        return result

    @contextmanager
    def enlist(self):
        """Be a worker of the study meanwhile: gives its name, by which others can tell whether it is alive."""
        folder = self.path / "workers"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        path = folder / name
        stop = threading.Event()
        with open(path, "a") as file:
            try_lock(file)
            beating = threading.Thread(target=_beat, args=(path, stop), daemon=True)
            beating.start()
            try:
                yield name
            finally:
                stop.set()
                beating.join()
                remove_if_there(path)

    def alive(self, name):
        """Whether the worker of that name still runs."""
        path = self.path / "workers" / name
        try:
            with open(path, "a" if os.name == "nt" else "r") as file:
                if name.rsplit("-", 2)[0] == socket.gethostname():
                    return not try_lock(file)
                age = _now(path.parent) - os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return False
        return age < _SILENCE

    @contextmanager
    def _locked(self):
        """The journal, opened for writing, with its lock held."""
        with open(self.journal, "a+b") as file:
            while not try_lock(file):
                time.sleep(_POLL)
            yield file

    def _catch_up(self, file):
        """Take in the complete lines that were added since the last time."""
        file.seek(self._offset)
        for line in file:
            if not line.endswith(b"\n"):
                break
            self._lines += 1
            try:
                trial = Trial.from_dict(json.loads(line))
            except (TypeError, ValueError) as error:
                where = f"{self.journal}, line {self._lines}"
                raise RunDirectoryError(f"{where}: no record of a trial ({error})") from error
            self._trials[trial.number] = trial
            self._offset += len(line)


def _beat(path, stop):
    """Touch the file until told to stop."""
    while not stop.wait(_BEAT):
        try:
            os.utime(path)
        except OSError:
            continue


def _now(folder):
    """The time by the clock of the file system that `folder` is on, which may not be this machine's."""
    probe = folder / f".clock-{os.getpid()}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        remove_if_there(probe)
