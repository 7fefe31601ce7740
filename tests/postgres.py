"""A PostgreSQL of its own on this machine, where its programs are installed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from real_mlflow import free_port
from real_search import wait_for

USER, PASSWORD = "mlflow", "canary-database-password"


def program(name: str) -> str | None:
    """The path of one of PostgreSQL's programs; Debian keeps them beside the PATH, by version."""
    beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(beside[-1]) if beside else None)


NEEDS_POSTGRES = pytest.mark.skipif(
    program("initdb") is None or program("postgres") is None or importlib.util.find_spec("psycopg") is None,
    reason="needs PostgreSQL (apt-get install postgresql) and psycopg",
)


@dataclass(frozen=True)
class Database:
    """A server that runs.

    Attributes:
        uri: for a tracking URI, without the password.
        password: of its user.
    """

    uri: str
    password: str = PASSWORD


def _as_somebody() -> dict[str, Any]:
    """The user to run PostgreSQL as, which refuses to run as root."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL does not run as root, and there is nobody else")


@contextlib.contextmanager
def running_postgres() -> Iterator[Database]:
    """A server while the block runs: on the loopback address, with a password."""
    folder = Path(tempfile.mkdtemp(prefix="ps-postgres-"))
    somebody = _as_somebody()
    secret = folder / "secret"
    secret.write_text(PASSWORD)
    if somebody:
        for path in (folder, secret):
            os.chown(path, somebody["user"], somebody["group"])
    port = free_port()
    options: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **somebody}
    data = folder / "data"
    initdb = [str(program("initdb")), "-D", str(data), "-U", USER, "--auth=scram-sha-256", f"--pwfile={secret}"]
    subprocess.run(
        [*initdb, "--encoding=UTF8", "--locale=C", "--no-sync"],
        check=True,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        **options,
    )
    server = [str(program("postgres")), "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder)]
    process = subprocess.Popen([*server, "-c", "fsync=off"], **options)
    try:
        wait_for(lambda: _answers(port) or process.poll() is not None)
        assert process.poll() is None
        yield Database(f"postgresql://{USER}@127.0.0.1:{port}/postgres")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _answers(port: int) -> bool:
    import psycopg

    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(host="127.0.0.1", port=port, user=USER, password=PASSWORD, dbname="postgres").close()
        return True
    return False
