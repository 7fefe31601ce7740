"""Ray's workers, forked off a process that has imported what they need: seconds less than the start of each.

Ray starts a worker by a script that prepares its environment and then becomes Ray's own worker. The Ray that tests
share runs this file instead: it asks the process that has imported everything for a fork, which becomes the worker, and
stays until that has ended. All other searches of the tests, those in processes of their own, start workers as users do.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SOCKET = "PRUNE_SEARCH_TEST_FORKS"
START_S = 180.0
CONTEXT = "--serialized-runtime-env-context="


@contextlib.contextmanager
def forked_workers() -> Iterator[dict[str, str]]:
    """Ray that is started meanwhile forks its workers, as long as the block lasts.

    Yields:
        Variables that Ray has to be started with.
    """
    import pytest
    from ray._private import ray_constants

    with tempfile.TemporaryDirectory(prefix="ps-forks-") as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / "socket"
        # What Ray reads of a worker's environment when it is imported: its first driver, and whom to end with.
        first = {"RAY_JOB_ID": "01000000", "RAY_RAYLET_PID": str(os.getpid())}
        environment = {"RAY_AUTH_MODE": "token", **os.environ, **first}
        parent = subprocess.Popen([sys.executable, __file__, "serve", str(path)], env=environment)
        try:
            end = time.monotonic() + START_S
            while not path.exists():
                if parent.poll() is not None or time.monotonic() > end:
                    raise RuntimeError("the process that forks workers did not start")
                time.sleep(0.05)
            patch.setattr(ray_constants, "SETUP_WORKER_FILENAME", __file__)
            yield {SOCKET: str(path)}
        finally:
            parent.kill()
            parent.wait()


def ask(arguments: list[str]) -> int:
    """In the process that Ray starts: have a worker forked, and wait for its end."""
    context = _context(arguments)
    if context.get("command_prefix") or context.get("py_executable") not in (None, sys.executable):
        # A folder or Python of its own: Ray's own script it is.
        script = Path(arguments[0]).with_name("setup_worker.py")
        os.execv(sys.executable, [sys.executable, str(script), *arguments])
    with socket.socket(socket.AF_UNIX) as ours:
        ours.connect(os.environ[SOCKET])
        told = json.dumps({"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}).encode()
        socket.send_fds(ours, [len(told).to_bytes(8, "big")], [0, 1, 2])
        ours.sendall(told)
        # Closed at its end.
        ours.recv(1)
    return 0


def _context(arguments: list[str]) -> dict[str, Any]:
    """The environment of its own that a worker has."""
    told = next((word.removeprefix(CONTEXT) for word in arguments if word.startswith(CONTEXT)), "")
    found: dict[str, Any] = json.loads(told or "{}")
    return found


def serve(path: str) -> None:
    """Import what workers need, and fork one for whoever asks, until killed or left alone."""
    parent = os.getppid()
    import ray._private.workers.default_worker
    import ray.tune  # noqa: F401

    import prune_search.search.ray.warm_up
    import prune_search.search.ray.worker  # noqa: F401

    connections: dict[int, socket.socket] = {}
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path + ".new")
    listener.listen(64)
    listener.settimeout(0.1)
    os.rename(path + ".new", path)
    while os.getppid() == parent:
        with contextlib.suppress(TimeoutError):
            connection, _ = listener.accept()
            pid = os.fork()
            if pid == 0:
                listener.close()
                for other in connections.values():
                    other.close()
                become_worker(connection)
            connections[pid] = connection
        for pid in list(connections):
            if os.waitpid(pid, os.WNOHANG)[0]:
                connections.pop(pid).close()


def become_worker(connection: socket.socket) -> None:
    """In the fork: what the process that Ray started would have become."""
    import random
    import runpy

    import numpy as np

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Ray signals the groups of its workers.
    os.setpgid(0, 0)
    connection.settimeout(START_S)
    size, files, _, _ = socket.recv_fds(connection, 8, 3)
    told = b""
    while len(told) < int.from_bytes(size, "big"):
        told += connection.recv(1 << 16)
    # The process that forks keeps it open.
    connection.close()
    asked = json.loads(told)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    random.seed()
    np.random.seed()
    script, *arguments = asked["arguments"]
    os.environ.update(_context(arguments).get("env_vars") or {})
    dropped = (CONTEXT, "--language=")
    sys.argv = [script, *(word for word in arguments if not word.startswith(dropped))]
    code = 1
    try:
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit(ask(sys.argv[1:]))
