"""A server in the foreground: a taken port is refused, and it ends with the process that runs it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prune_search.recipe.problems import UserError
from prune_search.tracking.serving import check_free, serve

# A server with a worker; each writes its pid, and the worker ignores what the server is told.
SERVER = """
import os, signal, subprocess, sys, time
worker = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(100)"
child = subprocess.Popen([sys.executable, "-c", worker, sys.argv[1] + ".worker"])
open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(float(sys.argv[2]))
sys.exit(int(sys.argv[3]))
"""
# What runs the tests may ignore signals, as nohup does, and what it starts would ignore them too.
RUNNER = """
import os, signal, sys
from prune_search.tracking.serving import serve
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
sys.exit(serve(sys.argv[1:], os.environ))
"""


def test_a_port_that_somebody_listens_on_is_refused_and_a_free_one_is_not() -> None:
    for host in ("127.0.0.1", "localhost", "0.0.0.0"):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            told = f"--port: {port} cannot be used on {host}: Address already in use; --port \\d+ is free"
            with pytest.raises(UserError, match=told):
                check_free(host, port)
        check_free(host, port)
    for host in ("x" * 70, "192.0.2.7"):
        with pytest.raises(UserError, match=r"^--host: .* is not a(n address of| valid host address)"):
            check_free(host, 5000)


def alive(file: Path) -> bool:
    """Whether the process whose pid a file holds is there; a zombie is not."""
    try:
        return Path(f"/proc/{file.read_text()}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(one, marks=pytest.mark.slow) for one in (signal.SIGINT, signal.SIGHUP))]
)
def test_a_signal_ends_the_server_and_its_workers(tmp_path: Path, number: int) -> None:
    file, worker = tmp_path / "server", tmp_path / "server.worker"
    runner = subprocess.Popen([sys.executable, "-c", RUNNER, sys.executable, "-c", SERVER, str(file), "100", "0"])
    end = time.monotonic() + 60
    while not (file.exists() and worker.exists() and worker.read_text()) and time.monotonic() < end:
        time.sleep(0.02)
    assert alive(file)
    assert alive(worker)
    os.kill(runner.pid, number)
    assert runner.wait(30) == 128 + number
    assert not alive(file)
    assert not alive(worker)


@pytest.mark.parametrize(("code", "ours"), [pytest.param("0", 1, marks=pytest.mark.slow), ("3", 3)])
def test_a_server_that_ends_unasked_is_a_failure_and_its_workers_end_too(tmp_path: Path, code: str, ours: int) -> None:
    before = signal.getsignal(signal.SIGTERM)
    file = tmp_path / "server"
    assert serve([sys.executable, "-c", SERVER, str(file), "0.5", code], os.environ) == ours
    assert not alive(file)
    assert not alive(tmp_path / "server.worker")
    assert signal.getsignal(signal.SIGTERM) is before
