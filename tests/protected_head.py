"""A Ray head that asks for a token, started on this machine as the files in cluster/ start one."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from real_mlflow import free_port
from real_search import TESTS, alive, descendants, wait_for

START_RAY = TESTS.parent / "cluster" / "start-ray.sh"
# What Ray's own extra brings, and nothing else here.
NEEDS_DASHBOARD = pytest.mark.skipif(
    importlib.util.find_spec("opencensus") is None or shutil.which("bash") is None,
    reason="needs ray[default] and bash",
)


@dataclass(frozen=True)
class Head:
    """A head that runs.

    Attributes:
        dashboard: its address, ``http://…``.
        address: of Ray itself, HOST:PORT.
        token: the file.
        home: the home folder of whoever talks to it: none of this machine's tokens is there.
    """

    dashboard: str
    address: str
    token: Path
    home: Path

    def environment(self, token: str | None = None) -> dict[str, str]:
        """Of a process that talks to it: without a token, with another one, or (``right``) with its own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        given = {
            None: {},
            "right": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token)},
        }.get(token, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token or ""})
        return {**kept, **given, "HOME": str(self.home), "COLUMNS": "160", "OMP_NUM_THREADS": "1"}

    def answer(self, path: str, token: str | None) -> int:
        """The status that its dashboard answers a request with."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.dashboard + path, headers=headers), timeout=10
            ) as got:
                return int(got.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code


def start_ray(*words: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Run cluster/start-ray.sh with this Python's `ray`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    log = Path(environment["HOME"]) / "ray.log"
    with log.open("ab") as stream:
        return subprocess.Popen(
            ["bash", str(START_RAY), *words],
            env={**environment, "PATH": path},
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            cwd=environment["HOME"],
        )


@contextlib.contextmanager
def protected_head() -> Iterator[Head]:
    """A head while the block runs."""
    # Paths of sockets are short.
    home = Path(tempfile.mkdtemp(prefix="ps-head-"))
    token = home / "token"
    port, dashboard = free_port(), free_port()
    head = Head(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}", token, home)
    ours = {"RAY_NODE_ADDRESS": "127.0.0.1", "RAY_PORT": str(port), "RAY_DASHBOARD_PORT": str(dashboard)}
    environment = head.environment("right") | ours
    assert start_ray("token", environment=environment).wait() == 0
    # The agent's default port is that of the other Ray of the tests, and without its agent a head takes no job.
    sizes = ["--num-cpus=2", "--object-store-memory=100000000", f"--temp-dir={home}/ray"]
    sizes.append(f"--dashboard-agent-listen-port={free_port()}")
    process = start_ray("head", *sizes, environment=environment)
    try:
        wait_for(lambda: process.poll() is not None or _answers(head), 120)
        if process.poll() is not None:
            raise RuntimeError((home / "ray.log").read_text()[-2000:])
        yield head
    finally:
        started = descendants(process.pid)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        for pid in started:
            if alive(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _answers(head: Head) -> bool:
    # Something else may have had the port a moment ago.
    with contextlib.suppress(OSError, http.client.HTTPException):
        return head.answer("/api/version", None) == 401 and head.answer("/api/jobs/", head.token.read_text()) == 200
    return False
