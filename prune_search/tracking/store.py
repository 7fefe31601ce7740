"""Where MLflow is: by default an SQLite file in the storage, and the command that shows it."""

from __future__ import annotations

import ipaddress
import os
import sys
from pathlib import Path

from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.tracking.uris import has_password, masked
from prune_search.training.places import Place, side_folder

DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
SERVERS = ("http://", "https://", "databricks")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SQLITE = "sqlite:///"


def default_uri(storage: Place) -> str:
    """The tracking URI of a storage: an SQLite file in it, or in its side folder on this machine."""
    return f"{SQLITE}{side_folder(storage) / DATABASE}"


def is_database(uri: str) -> bool:
    """Whether MLflow writes to a database itself, instead of asking a server."""
    return uri.partition("://")[0].partition("+")[0] in DATABASES


def artifact_root(storage: Place, uri: str) -> Path | None:
    """Where new experiments keep their files; None where the server decides."""
    return side_folder(storage) / ARTIFACTS if is_database(uri) else None


def absolute_uri(text: str, storage: Place) -> str:
    """A tracking URI as it is kept in a search, so that it means the same wherever the next command is typed.

    Args:
        text: as it was typed; empty for the default.
        storage: the storage.

    Raises:
        UserError: MLflow does not take it, or it carries a password, which would be stored with the search.
    """
    text = text.strip()
    if not text:
        return default_uri(storage)
    if has_password(text):
        raise _wrong(f"{masked(text)}: {_where_passwords_go(text)}")
    if text.startswith(SQLITE):
        path = text.removeprefix(SQLITE)
        if not path or path == ":memory:":
            raise _wrong(f"must name a file, as in sqlite:///mlflow.db (got {shown(text)})")
        return f"{SQLITE}{Path(path).absolute()}"
    if text.startswith(SERVERS) or is_database(text):
        return text.rstrip("/")
    got = shown(text.rpartition("@")[2])
    raise _wrong(f"must be http://HOST:PORT, https://…, sqlite:///FILE or postgresql://HOST/NAME (got {got})")


def _wrong(message: str) -> UserError:
    return UserError([Problem("--tracking-uri", message)])


def _where_passwords_go(uri: str) -> str:
    if is_database(uri):
        return "a password would be stored with the search: put it into ~/.pgpass or PGPASSWORD"
    return (
        "a password would be stored with the search: put it into MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    )


def ui_command(
    storage: Place, uri: str, host: str = "127.0.0.1", port: int = 5000, allowed_hosts: str | None = None
) -> list[str]:
    """The command that serves MLflow's pages of a database; run it with `ui_environment`.

    Args:
        storage: the storage, for files of experiments that are made in the browser.
        uri: tracking URI of the database.
        host: address to listen on.
        port: to listen on.
        allowed_hosts: names by which browsers may call it; needed where `host` is not this machine alone.

    Raises:
        UserError: the URI is a server's, which has pages of its own; or others could reach it by any name.
    """
    if not is_database(uri):
        raise UserError(f"the search is on an MLflow server: open {masked(uri)} in a browser")
    if not _loopback(host) and not allowed_hosts:
        text = f"{shown(host)} is open to other machines, and MLflow asks nobody for a password: name the hosts"
        raise UserError([Problem("--host", f"{text} by which it may be called with --allowed-hosts")])
    names = allowed_hosts or ",".join(f"{name}:{port}" for name in ("localhost", "127.0.0.1", "[::1]"))
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    files = (side_folder(storage) / ARTIFACTS).as_uri()
    command += ["--allowed-hosts", names, "--artifacts-destination", files]
    # Clients on this machine write files as those do that write to the database itself; others through the server.
    return [*command, "--default-artifact-root", files] if _loopback(host) else command


def ui_environment(uri: str) -> dict[str, str]:
    """Environment of `ui_command`: the database, which may carry a password and so is no argument; no telemetry."""
    ours = {
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }
    return {**os.environ, **ours}


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
