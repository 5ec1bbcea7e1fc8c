"""A PostgreSQL server for tests: made, started and thrown away by ``server()``; a skip says what is missing."""

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def server():
    """The URL of a fresh database, reached by a socket in a folder of its own, so no port can be taken already."""
    pytest.importorskip("psycopg")
    missing = [name for name in ("initdb", "pg_ctl", "postgres") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no PostgreSQL server to start: {', '.join(missing)} not on the PATH")
    # Not tmp_path: the path of a socket is short, and a server that root must not run needs a way to its folder.
    folder = Path(tempfile.mkdtemp(prefix="scc-pg-"))
    account = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        account = {"user": nobody.pw_uid, "group": nobody.pw_gid}

    def call(*command):
        # The server outlives pg_ctl and would keep a pipe open: output goes to a file.
        with open(folder / "output", "ab") as output:
            done = subprocess.run(command, cwd=folder, stdout=output, stderr=output, timeout=60, **account)
        assert done.returncode == 0, (folder / "output").read_text()

    cluster = str(folder / "data")
    try:
        call("initdb", "-D", cluster, "--no-sync", "-A", "trust", "-U", "scc", "-E", "UTF8", "--locale=C")
        settings = f"-k {folder} -c listen_addresses='' -c fsync=off"
        call("pg_ctl", "-D", cluster, "-w", "-l", str(folder / "log"), "-o", settings, "start")
        try:
            yield f"postgresql://scc@/postgres?host={folder}"
        finally:
            call("pg_ctl", "-D", cluster, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
