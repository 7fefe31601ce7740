"""Runs MLflow's server in the foreground: refuses a port that is taken, and ends the server with this process."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.storage.errors import one_line

# Signals that end this process end the server first; one that this process ignores (nohup) is left ignored.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LET_GO_S, LOOK_EVERY_S = 10.0, 0.05


def _next_free(family: int, kind: int, protocol: int, address: Any) -> int | None:
    """The first port after an address's that is free, of the next hundred; above 1023, which need no rights."""
    host, port, *rest = address
    for other in range(max(1024, port + 1), min(65535, max(1024, port) + 100)):
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as listener:
            listener.bind((host, other, *rest))
            return other
    return None


def check_free(host: str, port: int) -> None:
    """Find out whether this process could listen, before a server is started that says so in a page of its log.

    Raises:
        UserError: the port is taken or needs more rights, or there is no such host.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise UserError([Problem("--host", f"{shown(host)} is not a valid host address: {one_line(error)}")]) from None
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as listener:
                # As the server does it: connections that have just ended do not keep a port.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind(address)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                free = _next_free(family, kind, protocol, address)
                other = f"--port {free} is free" if free else "choose another one"
                text = f"{port} cannot be used on {host}: {one_line(error)}; {other}"
                raise UserError([Problem("--port", text)]) from None
            if error.errno == errno.EADDRNOTAVAIL and len(found) == 1:
                raise UserError([Problem("--host", f"{shown(host)} is not an address of this machine")]) from None


def serve(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a server until it ends, or until a signal asks this process to end, which ends the server and its workers.

    Args:
        command: words.
        environment: variables, all of them.

    Returns:
        The server's own exit code, 1 where it ended unasked with 0; 128 plus the number of the signal.
    """
    told: list[int] = []
    processes: list[subprocess.Popen[bytes]] = []

    def end(number: int, frame: FrameType | None) -> None:
        told.append(number)
        for process in processes:
            _tell(process, signal.SIGTERM)

    before = {number: signal.getsignal(number) for number in ENDING}
    try:
        for number in ENDING:
            if before[number] is not signal.SIG_IGN:
                signal.signal(number, end)
        # A group of its own: one signal reaches the workers too, and a Ctrl-C reaches them through us alone.
        process = subprocess.Popen(command, env=dict(environment), start_new_session=True)  # noqa: S603 - our own command
        processes.append(process)
        if told:
            _tell(process, signal.SIGTERM)
        code = process.wait()
        _let_go(process)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
    if told:
        return 128 + told[0]
    return code if code > 0 else 1 if code == 0 else 128 - code


def _tell(process: subprocess.Popen[bytes], number: int) -> bool:
    """Send a signal to a server and its workers; False where none of them is there any more."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
        return True
    return False


def _let_go(process: subprocess.Popen[bytes]) -> None:
    """Wait until the workers have ended too; those that do not end are killed."""
    end = time.monotonic() + LET_GO_S
    while _tell(process, 0):
        if time.monotonic() > end:
            _tell(process, signal.SIGKILL)
            return
        _tell(process, signal.SIGTERM)
        time.sleep(LOOK_EVERY_S)
