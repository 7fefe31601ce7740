"""Connects this process to Ray: a session of its own on this machine, or a cluster."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prune_search.recipe.problems import Problem, UserError
from prune_search.search.ray.address import no_cluster
from prune_search.search.ray.runtime_env import IN_A_JOB, job_environment, names_code, runtime_env
from prune_search.search.ray.token import make_token
from prune_search.storage.errors import one_line

# The path of a socket, less "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.1" and a final zero.
MAX_TMPDIR = 107 - 70
SHORT = "/tmp"  # noqa: S108 - Ray's own default

_log = logging.getLogger("prune_search")


def connect(address: str | None, code: Mapping[str, str | None]) -> None:
    """Start Ray here, or connect to a cluster, whose nodes are given this package and the user's code.

    Args:
        address: of the cluster; None for this machine.
        code: the user's own model and data by name; where there is any, the current directory travels too.

    Raises:
        UserError: there is no such cluster, or it does not let us in; or Ray cannot be started here.
    """
    import ray

    more: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        make_token()
    elif IN_A_JOB not in os.environ:
        folder = Path.cwd() if names_code(code) else None
        more["runtime_env"] = runtime_env(folder, job_environment())
    if address is None:
        start(more)
        return
    try:
        ray.init(address=address, **more)
    except (ConnectionError, ValueError, ray.exceptions.AuthenticationError) as error:
        raise no_cluster(address, error) from None


def start(options: Mapping[str, Any]) -> None:
    """Start Ray on this machine.

    Raises:
        UserError: it does not start, whatever Ray raises.
    """
    import ray

    folder = session_folder()
    more: dict[str, Any] = {} if folder is None else {"_temp_dir": folder}
    try:
        ray.init(address="local", **options, **more)
    except Exception as error:
        raise UserError(f"Ray cannot be started on this machine: {one_line(error)}") from error


def session_folder() -> str | None:
    """Where Ray keeps its session and its sockets on this machine; None for the place that it takes itself.

    Ray takes ``$RAY_TMPDIR``, else ``$TMPDIR``, else ``/tmp``. The path of a socket can have 107 bytes, which the
    temporary folder of a batch job easily exceeds: then ``/tmp`` is taken instead of ``$TMPDIR``.

    Raises:
        UserError: ``$RAY_TMPDIR`` is too long, or ``/tmp`` cannot be used.
    """
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), None)
    if variable is None or len(os.fsencode(os.environ[variable])) <= MAX_TMPDIR:
        return None
    if variable == "TMPDIR" and os.access(SHORT, os.W_OK | os.X_OK):
        _log.info("TMPDIR is too long for Ray's sockets: Ray uses %s", SHORT)
        return f"{SHORT}/ray"
    size = len(os.fsencode(os.environ[variable]))
    text = f"is too long for Ray's sockets ({size} bytes, at most {MAX_TMPDIR}): set RAY_TMPDIR to a shorter folder"
    raise UserError([Problem(variable, f"{text}, e.g. RAY_TMPDIR={SHORT}")])


def disconnect() -> None:
    """Shut Ray down in this process.

    While Ray ends its core worker, another thread may let go of an object reference, and Ray then ends the whole
    process with exit code 1 (``The core worker has already been shutdown``). Threads let go of what they never held
    when the garbage collector happens to run in them, and Tune leaves references in cycles. So the cycles go first,
    and none is collected meanwhile.
    """
    import ray

    collects = gc.isenabled()
    gc.disable()
    try:
        gc.collect()
        ray.shutdown()
    finally:
        if collects:
            gc.enable()
