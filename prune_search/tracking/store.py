"""Resolves where MLflow is (by default an SQLite file in the storage) and builds the command that serves its UI."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from prune_search.ledger.tracking_uri import absolute_sqlite, default_uri, sqlite_file, sqlite_uri
from prune_search.ledger.uris import has_password, masked
from prune_search.recipe.problems import Problem, UserError, shown
from prune_search.storage.files import put_file, side_folder
from prune_search.storage.places import StoragePath
from prune_search.tracking.sqlite_file import ARTIFACTS

USERS = "mlflow-users.db"
SHORTEST_PASSWORD = 12
SERVERS = ("http://", "https://", "databricks")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def is_database(uri: str) -> bool:
    """Whether MLflow writes to a database itself, instead of asking a server."""
    return uri.partition("://")[0].partition("+")[0] in DATABASES


def artifact_root(storage: StoragePath, uri: str) -> Path | None:
    """Where new experiments keep their files; None where the server decides."""
    return side_folder(storage) / ARTIFACTS if is_database(uri) else None


def absolute_uri(text: str, storage: StoragePath) -> str:
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
    if text.startswith("sqlite"):
        if sqlite_file(text) is None:
            raise _wrong(f"must name a file, e.g. sqlite:///mlflow.db (got {shown(text)})")
        return absolute_sqlite(text)
    if text.startswith(SERVERS) or is_database(text):
        return text.rstrip("/")
    got = shown(text.rpartition("@")[2])
    raise _wrong(f"must be http://HOST:PORT, https://…, sqlite:///FILE or postgresql://HOST/NAME (got {got})")


def _wrong(message: str) -> UserError:
    return UserError([Problem("--tracking-uri", message)])


def _where_passwords_go(uri: str) -> str:
    if is_database(uri):
        return "a password here would be stored with the search: put it into ~/.pgpass or PGPASSWORD"
    return (
        "a password here would be stored with the search: put it into MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    )


@dataclass(frozen=True)
class Serving:
    """How MLflow's pages are served.

    Attributes:
        host: address to listen on.
        port: to listen on.
        allowed_hosts: names by which browsers and clients may call it; needed where `host` is not this machine alone.
        auth: whether everybody must give a name and a password.
        artifacts: where the server keeps files, ``s3://…`` too; None: the storage.
    """

    host: str = "127.0.0.1"
    port: int = 5000
    allowed_hosts: str | None = None
    auth: bool = False
    artifacts: str | None = None


def ui_command(storage: StoragePath, uri: str, serving: Serving = Serving()) -> list[str]:
    """The command that serves MLflow's pages of a database; run it with `ui_environment`.

    Args:
        storage: the storage, for files of experiments that are made in the browser.
        uri: tracking URI of the database.
        serving: where it listens, and who may ask.

    Raises:
        UserError: the URI is a server's, which has pages of its own; or others could reach it by any name.
    """
    host, port = serving.host, serving.port
    if not is_database(uri):
        raise UserError(f"the search is on an MLflow server: open {masked(uri)} in a browser")
    if not _loopback(host) and not serving.allowed_hosts:
        asked = (
            "and MLflow does not ask for a password"
            if not serving.auth
            else "even under host names that an attacker controls"
        )
        text = f"{shown(host)} is open to other machines, {asked}: list the host names"
        raise UserError([Problem("--host", f"{text} that browsers may use with --allowed-hosts")])
    names = serving.allowed_hosts or ",".join(f"{name}:{port}" for name in ("localhost", "127.0.0.1", "[::1]"))
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    files = serving.artifacts or (side_folder(storage) / ARTIFACTS).as_uri()
    command += ["--allowed-hosts", names, "--artifacts-destination", files]
    command += ["--app-name", "basic-auth"] if serving.auth else []
    # Clients on this machine write files as those do that write to the database itself; others through the server.
    return [*command, "--default-artifact-root", files] if _loopback(host) and not serving.artifacts else command


def ui_environment(storage: StoragePath, uri: str, serving: Serving = Serving()) -> dict[str, str]:
    """Environment of `ui_command`: the database, which may carry a password and so is no argument; no telemetry.

    Raises:
        UserError: names and passwords are asked for, and none is known for the first user.
    """
    ours = {
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }
    return {**os.environ, **ours, **(_auth_environment(side_folder(storage)) if serving.auth else {})}


def _auth_environment(folder: Path) -> dict[str, str]:
    """What MLflow needs to ask for names and passwords: its users' database, the first user, a key for its forms."""
    if importlib.util.find_spec("flask_wtf") is None:
        raise UserError([Problem("--auth", "needs mlflow[auth]: install it with pip install 'prune-search[cluster]'")])
    users = folder / USERS
    name, password = (os.environ.get(f"MLFLOW_AUTH_ADMIN_{word}") for word in ("USERNAME", "PASSWORD"))
    first = not users.exists() or users.stat().st_size == 0
    if first and (not name or not password or len(password) < SHORTEST_PASSWORD):
        text = f"the first user's name and password ({SHORTEST_PASSWORD} characters or more) must be in"
        raise UserError([Problem("--auth", f"{text} MLFLOW_AUTH_ADMIN_USERNAME and MLFLOW_AUTH_ADMIN_PASSWORD")])
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "mlflow-auth.ini"
    settings = {"default_permission": "EDIT", "database_uri": sqlite_uri(users)}
    settings["authorization_function"] = "mlflow.server.auth:authenticate_request_basic_auth"
    text = "[mlflow]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items())
    put_file(config, text.replace("%", "%%").encode())
    # The users' passwords are hashed, and still nobody else's to read.
    os.close(os.open(users, os.O_WRONLY | os.O_CREAT, 0o600))
    key = os.environ.get("MLFLOW_FLASK_SERVER_SECRET_KEY") or secrets.token_hex(32)
    return {"MLFLOW_AUTH_CONFIG_PATH": str(config), "MLFLOW_FLASK_SERVER_SECRET_KEY": key}


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
