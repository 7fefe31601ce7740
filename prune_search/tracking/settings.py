"""MLflow's settings, for the calls that prune_search makes and for no others in the process.

MLflow has no setting per client. It reads the environment at every request (`mlflow.environment_variables`), and the
environment belongs to the whole process: a variable that one delivery sets and takes out is taken from another one
that runs at the same time, which then waits for minutes; a user's own calls in a notebook and every sub-process get it
too; and changing the environment while other threads run is not safe in C. So the variables stay as they are. Each of
the few objects that MLflow reads them through is given a second answer, which counts within `settings` alone, in the
thread that has entered it:

- A variable that the user has set always wins.
- A notebook's own calls of MLflow keep MLflow's defaults, also while a search delivers in another thread.
- Sub-processes and Ray's workers inherit nothing.

One thing MLflow reads once, when it is imported: whether to send telemetry, and without a word it would, under an id
that it writes into the user's home and into the environment. `prepare_process` answers that in the environment, before
the first thread is started, and leaves it there.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from prune_search.storage.places import ensure_home

# Nobody waits for a call of the delivering thread but the next call: it has its own pauses, longer than mlflow's.
SETTINGS: dict[str, int | bool] = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": 0,
    "MLFLOW_HTTP_REQUEST_TIMEOUT": 30,
    "MLFLOW_DISABLE_TELEMETRY": True,
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": True,
}
LEVEL = "MLFLOW_LOGGING_LEVEL"

_within: ContextVar[bool] = ContextVar("prune_search_within_mlflow_settings", default=False)
_lock = threading.Lock()
_installed = False


def prepare_process() -> None:
    """Settle what MLflow reads when it is imported. Called before threads are started; twice is once.

    Telemetry is switched off, unless the user has said otherwise or has imported MLflow before. MLflow cannot be
    imported by a user without a home, who is given one (`ensure_home`).
    """
    ensure_home()
    if "mlflow" not in sys.modules:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@contextlib.contextmanager
def settings() -> Iterator[None]:
    """Calls of MLflow in this block, in this thread, do not retry, time out after 30 s, and are quiet.

    See above for why no variable is changed. What the user has set in the environment counts instead. Blocks may be
    nested, and overlap in different threads.
    """
    _install()
    token = _within.set(True)
    try:
        yield
    finally:
        _within.reset(token)


def _install() -> None:
    """Give MLflow's variables their second answer, once per process. This imports mlflow."""
    global _installed
    with _lock:
        if _installed:
            return
        from mlflow import environment_variables

        for name, value in SETTINGS.items():
            variable = getattr(environment_variables, name)
            # On the object, over the method of its class: MLflow's modules share these objects.
            setattr(variable, "get", functools.partial(_answer, name, value, variable.get))  # noqa: B010 - a method
        for handler in logging.getLogger("mlflow").handlers:
            handler.addFilter(_is_told)
        _installed = True


def _answer(name: str, ours: Any, usual: Callable[[], Any]) -> Any:
    return ours if _within.get() and name not in os.environ else usual()


def _is_told(record: logging.LogRecord) -> bool:
    return not (_within.get() and record.levelno < logging.WARNING and LEVEL not in os.environ)
