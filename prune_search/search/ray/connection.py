"""Connects this process to Ray: a session of its own on this machine, or a cluster."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prune_search.search.ray.address import no_cluster
from prune_search.search.ray.runtime_env import IN_A_JOB, job_environment, names_code, runtime_env
from prune_search.search.ray.token import make_token


def connect(address: str | None, code: Mapping[str, str | None]) -> None:
    """Start Ray here, or connect to a cluster, whose nodes are given this package and the user's code.

    Args:
        address: of the cluster; None for this machine.
        code: the user's own model and data by name; where there is any, the current directory travels too.

    Raises:
        UserError: there is no such cluster, or it does not let us in.
    """
    import ray

    more: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        make_token()
    elif IN_A_JOB not in os.environ:
        folder = Path.cwd() if names_code(code) else None
        more["runtime_env"] = runtime_env(folder, job_environment())
    try:
        ray.init(address=address or "local", **more)
    except (ConnectionError, ValueError, ray.exceptions.AuthenticationError) as error:
        if address is None:
            raise
        raise no_cluster(address, error) from None


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
