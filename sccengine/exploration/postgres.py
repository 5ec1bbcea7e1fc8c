"""A study in a PostgreSQL database, for workers on many machines: ``--storage postgresql://user@host/database``.

Two tables, made when first needed: the plan of each study, and the newest record of each of its trials with a revision
that grows, so that only what changed is fetched. An ``update`` is one transaction that holds the study's advisory lock.
A worker holds an advisory lock of its own as long as its connection lives: PostgreSQL drops it when the process is
gone, or, by keepalive packets, when the machine or the network is. A lost connection is made anew.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
import time
from contextlib import contextmanager

from sccengine.exploration.store import Table
from sccengine.exploration.trial import Trial

_TABLES = """
CREATE TABLE IF NOT EXISTS sccengine_studies (name text PRIMARY KEY, plan jsonb NOT NULL);
CREATE SEQUENCE IF NOT EXISTS sccengine_revisions;
CREATE TABLE IF NOT EXISTS sccengine_trials (
    study text NOT NULL, number integer NOT NULL, revision bigint NOT NULL, record jsonb NOT NULL,
    PRIMARY KEY (study, number));
CREATE INDEX IF NOT EXISTS sccengine_newest ON sccengine_trials (study, revision);
"""
_PUT = """
INSERT INTO sccengine_trials VALUES (%s, %s, nextval('sccengine_revisions'), %s)
ON CONFLICT (study, number) DO UPDATE SET revision = excluded.revision, record = excluded.record
"""
_KEEPALIVE = {"keepalives_idle": 20, "keepalives_interval": 10, "keepalives_count": 3}
_SERVER_KEEPALIVE = "-c tcp_keepalives_idle=20 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
_PATIENCE = 120.0  # seconds for which a lost connection is tried again


class PostgresStore:
    """The study called `study` in the database at `url`; the same methods as FileStore.

    Raises ValueError for another kind of URL, ImportError that says what to install, and RuntimeError where the
    database cannot be reached.
    """

    def __init__(self, url, study):
        scheme, found, _ = url.partition("://")
        if scheme not in ("postgresql", "postgres"):
            # Without the rest, in which a password may stand.
            got = f"{scheme}://..." if found else "a text without ://"
            raise ValueError(f"storage: a study's database is a postgresql:// URL, got {got}")
        try:
            import psycopg
            from psycopg.types.json import Jsonb
        except ImportError as error:
            raise ImportError(
                f'a study in PostgreSQL needs psycopg ({error}): pip install "sccengine[explore]"'
            ) from error
        self._psycopg, self._jsonb = psycopg, Jsonb
        self.url, self.study = url, study
        self._trials, self._revision = {}, 0
        self._worker = None
        self._connection = None
        self._connect()
        self._retried(self._make_tables)

    def __str__(self):
        return f"{without_password(self.url)}, study {self.study}"

    def read_plan(self):
        """The plan as plain values, or None where there is no study yet."""
        row = self._retried(lambda: self._one("SELECT plan FROM sccengine_studies WHERE name = %s", self.study))
        return row and row[0]

    def begin(self, plan, saved):
        """Whether `plan` (plain values) was put in the place of `saved` (None: of nothing): not if that is no longer
        there, because another process was first."""
        if saved is None:
            query = "INSERT INTO sccengine_studies VALUES (%s, %s) ON CONFLICT DO NOTHING"
            values = self.study, self._jsonb(plan)
        else:
            query = "UPDATE sccengine_studies SET plan = %s WHERE name = %s AND plan = %s"
            values = self._jsonb(plan), self.study, self._jsonb(saved)
        return self._retried(lambda: self._connection.execute(query, values).rowcount) == 1

    def trials(self):
        """All trials as they are recorded now, in order."""
        self._retried(self._catch_up)
        return [trial for _, trial in sorted(self._trials.items())]

    def update(self, change):
        """What `change(table)` returns; what it put into the table is in the database then.

        `change` is called again if the connection was lost meanwhile, so it must not do anything else.
        """

        def transaction():
            self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (_key("study", self.study),))
            self._catch_up()
            table = Table(self._trials)
            result = change(table)
            for number, trial in table.changed.items():
                self._connection.execute(_PUT, (self.study, number, self._jsonb(trial.as_dict())))
            return result

        return self._retried(transaction)

    @contextmanager
    def enlist(self):
        """Be a worker of the study meanwhile: gives its name, by which others can tell whether it is alive."""
        self._worker = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self._retried(self._hold)
        try:
            yield self._worker
        finally:
            self._connection.close()

    def alive(self, name):
        """Whether the worker of that name still runs (call it within an update)."""
        if name == self._worker:
            return True
        free = self._one("SELECT pg_try_advisory_lock(%s)", _key("worker", name))[0]
        if free:
            self._connection.execute("SELECT pg_advisory_unlock(%s)", (_key("worker", name),))
        return not free

    def _connect(self):
        try:
            self._connection = self._psycopg.connect(
                self.url, options=_SERVER_KEEPALIVE, connect_timeout=15, autocommit=True, **_KEEPALIVE
            )
        except self._psycopg.OperationalError as error:
            raise RuntimeError(f"cannot reach {without_password(self.url)}: {error}") from error

    def _make_tables(self):
        # Two processes that make the same table at the same time would fail: one after the other.
        self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (_key("tables", ""),))
        self._connection.execute(_TABLES)

    def _hold(self):
        if self._worker is not None:
            self._connection.execute("SELECT pg_advisory_lock(%s)", (_key("worker", self._worker),))

    def _one(self, query, *arguments):
        return self._connection.execute(query, arguments).fetchone()

    def _catch_up(self):
        rows = self._connection.execute(
            "SELECT number, revision, record FROM sccengine_trials WHERE study = %s AND revision > %s "
            "ORDER BY revision",
            (self.study, self._revision),
        )
        for number, revision, record in rows:
            self._trials[number] = Trial.from_dict(record)
            self._revision = revision

    def _retried(self, action):
        """What `action()` returns, in one transaction; once more with a new connection if this one was lost."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                if self._connection.closed:
                    self._connect()
                    self._hold()
                with self._connection.transaction():
                    return action()
            except (self._psycopg.OperationalError, RuntimeError):
                if not self._connection.closed or time.monotonic() > deadline:
                    raise
                time.sleep(1.0)


def without_password(url):
    """The URL as it may be shown and written down."""
    return re.sub(r"(//[^/@:]*):[^/@]*@", r"\1@", url)


def _key(kind, name):
    """The advisory lock of a name: 64 bits, signed, as PostgreSQL wants them."""
    digest = hashlib.blake2b(f"sccengine/{kind}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
