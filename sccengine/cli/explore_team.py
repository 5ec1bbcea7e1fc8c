"""More workers of an exploration on this machine: the same command in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from sccengine import backend
from sccengine.training.interruption import Interruption


class Team:
    """A context manager: `count` processes that work on the study in `out`, or called `name` in `storage`.

    They and this process share the kernels' threads, which is what makes several small trainings faster than one after
    another. On leaving, none of them is left; so that they are left by SIGTERM and SIGHUP too, these raise Interrupted
    between trainings, which catch them themselves.
    """

    def __init__(self, count, out, storage, name, data_dir, device, seconds):
        self._command = [sys.executable, "-m", "sccengine", "explore", "--out", str(out), "--quiet", "--member"]
        self._command += ["--device", device]
        self._environment = dict(os.environ)
        if storage is not None:
            # Not among the words of the command, which everyone on the machine can read: it may hold a password.
            self._environment["SCCENGINE_STORAGE"] = storage
            self._command += ["--study", name]
        if data_dir is not None:
            self._command += ["--data-dir", str(data_dir)]
        if seconds is not None:
            self._command += ["--time", str(seconds)]
        self._count = count
        self._processes = []
        self._interruption = Interruption(at_once=True)

    def __enter__(self):
        self._interruption.__enter__()
        if self._count:
            threads = max(1, backend.num_threads() // (self._count + 1))
            backend.set_num_threads(threads)
            environment = {**self._environment, "NUMBA_NUM_THREADS": str(threads)}
            for _ in range(self._count):
                # In a session of their own: Ctrl-C reaches this process alone, which asks them to end.
                process = subprocess.Popen(self._command, env=environment, start_new_session=True)
                self._processes.append(process)
        return self

    def wait(self):
        """Until all have ended by themselves."""
        for process in self._processes:
            process.wait()

    def interrupt(self):
        """Ask all to save what they have and end, and wait until they have."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        self.wait()

    def __exit__(self, kind, error, traceback):
        if kind is not None:
            for process in self._processes:
                process.kill()
        self.wait()
        self._interruption.__exit__(kind, error, traceback)
