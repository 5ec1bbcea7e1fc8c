"""optuna-dashboard on a study: its trials are told to an Optuna study in memory, which the dashboard serves."""

from __future__ import annotations

import threading
import time

from sccengine.exploration.search import import_optuna, tell

_REFRESH = 5.0  # seconds between two looks at the record


def serve(study, host, port, say):
    """Serve until interrupted; `say` is called with the URL before. New trials appear as they end.

    Raises ImportError that says what to install, OSError where the port is taken.
    """
    optuna = import_optuna()
    try:
        from optuna_dashboard import run_server
    except ImportError as error:
        raise ImportError(
            f'explore dashboard needs optuna-dashboard ({error}): pip install "sccengine[explore]"'
        ) from error
    storage = optuna.storages.InMemoryStorage()
    mirror = _Mirror(study, storage)
    threading.Thread(target=mirror.follow, daemon=True).start()
    say(f"http://{host}:{port}")
    run_server(storage, host=host, port=port)


class _Mirror:
    """The trials of `study` in an Optuna storage, each once it is over."""

    def __init__(self, study, storage):
        self._study, self._told = study, set()
        self._optuna_study = tell(study.plan, [], storage=storage, name=study.name or study.out.name)
        self._update()

    def follow(self):
        while True:
            time.sleep(_REFRESH)
            self._update()

    def _update(self):
        new = [trial for trial in self._study.trials() if trial.over and trial.number not in self._told]
        tell(self._study.plan, new, self._optuna_study)
        self._told.update(trial.number for trial in new)
